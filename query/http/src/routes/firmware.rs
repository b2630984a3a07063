//! Releases of firmware: uploading, listing and changing them, checks and downloads.

use acuvim_control::{Control, FirmwareDeleted};
use acuvim_model::{
    Firmware, FirmwareCheck, FirmwareEdit, FirmwareUpload, Page, Role,
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{Multipart, Request, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    devices::find as find_device,
    list::{List, page, paged},
};
use crate::{
    auth::{Authenticator, Caller},
    checks,
    extract::{Body, Params, Path, editable},
    firmware::{
        self as service, Asker, DownloadRequest, FirmwareCaller, Identification, Uploaded,
        UrlToken, no_firmware,
    },
    problem::ApiError,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only those for this hardware, and for all.
    hardware: Option<String>,
    /// Only those that checks offer, or that they don't.
    active: Option<bool>,
}

paged!(ListParams);

/// The releases, newest upload first.
#[utoipa::path(get, path = "/api/firmware", tag = "firmware", params(ListParams),
    responses((status = 200, body = Page<Firmware>)))]
pub(super) async fn list(
    State(control): State<Control>,
    _caller: Caller,
    List { params, limit }: List<ListParams>,
) -> Result<Json<Page<Firmware>>, ApiError> {
    let wanted = |firmware: &Firmware| {
        let its = firmware.hardware.as_deref();
        params.active.is_none_or(|active| firmware.active == active)
            && params
                .hardware
                .as_deref()
                .is_none_or(|wanted| its.is_none_or(|its| its.eq_ignore_ascii_case(wanted)))
    };
    let all: Vec<Firmware> = control
        .firmware_list(false)
        .await?
        .into_iter()
        .map(|stored| stored.firmware)
        .filter(wanted)
        .collect();
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let skipped = match &params.cursor {
        None => 0,
        Some(cursor) => {
            let at = all.iter().position(|firmware| firmware.version == *cursor);
            let none = || ApiError::field("cursor", "not a next_cursor of this list");
            at.ok_or_else(none)? + 1
        }
    };
    let items: Vec<Firmware> =
        all.into_iter().skip(skipped).take(usize::try_from(limit).unwrap_or(0)).collect();
    Ok(page(items, total, limit, |firmware| firmware.version.clone()))
}

/// Upload a release. Its image is checked to the last byte before anything is stored: a file that is
/// damaged, cut short, for another chip or no application is refused with what is wrong. The same
/// bytes under the same version again are a 200, other bytes a 409.
#[utoipa::path(post, path = "/api/firmware", tag = "firmware",
    request_body(content = FirmwareUpload, content_type = "multipart/form-data"),
    responses((status = 201, body = Firmware), (status = 200, body = Firmware),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn upload(
    State(service): State<service::Firmware>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Firmware>), ApiError> {
    use axum::extract::FromRequest as _;
    caller.require_all(Role::Operator)?;
    // Before the body is read: an image is held in memory until it is stored.
    let _permit = service.begin_upload()?;
    let parts = Multipart::from_request(request, &()).await.map_err(|e| {
        let detail =
            format!("send the form as Content-Type: multipart/form-data; {}", e.body_text());
        ApiError::new(Code::UnsupportedMediaType, detail)
    })?;
    let Uploaded { firmware, is_new } = service.upload(&caller, parts).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(firmware)))
}

/// A release.
#[utoipa::path(get, path = "/api/firmware/{version}", tag = "firmware",
    params(("version" = String, Path, description = "The release's version")),
    responses((status = 200, body = Firmware), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    _caller: Caller,
    Path(version): Path<String>,
) -> Result<Json<Firmware>, ApiError> {
    let found = control.firmware(&version).await?;
    found.map(|stored| Json(stored.firmware)).ok_or_else(no_firmware)
}

/// Change whether checks offer a release, its notes, and whether it is mandatory. The image stays what
/// it is.
#[utoipa::path(put, path = "/api/firmware/{version}", tag = "firmware", request_body = FirmwareEdit,
    params(("version" = String, Path, description = "The release's version")),
    responses((status = 200, body = Firmware), (status = 404, body = Problem)))]
pub(super) async fn put(
    State(control): State<Control>,
    State(service): State<service::Firmware>,
    caller: Caller,
    Path(version): Path<String>,
    Body(resource): Body<serde_json::Map<String, serde_json::Value>>,
) -> Result<Json<Firmware>, ApiError> {
    caller.require_all(Role::Operator)?;
    let edit: FirmwareEdit = editable(resource, &READ_ONLY)?;
    if let Some(notes) = &edit.release_notes {
        checks::long_text("release_notes", notes)?;
    }
    let changed = control.edit_firmware(&version, &edit, &caller.by()).await?;
    // Also after an edit: a release that is no longer active must not be fetched for the rest of a pass.
    service.forget(&version);
    changed.map(Json).ok_or_else(no_firmware)
}

/// The read-only fields of a release.
const READ_ONLY: [&str; 12] = [
    "id",
    "version",
    "filename",
    "file_size",
    "checksum",
    "hardware",
    "image",
    "manifest",
    "warnings",
    "created_by",
    "created_at",
    "updated_at",
];

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteParams {
    /// Delete it although a rollout or a device needs it.
    force: Option<bool>,
}

/// Delete a release and its image. One that a rollout or a device needs is a 409, unless forced; to
/// hide it from checks, set `active` to false.
#[utoipa::path(delete, path = "/api/firmware/{version}", tag = "firmware",
    params(("version" = String, Path, description = "The release's version"), DeleteParams),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn delete(
    State(control): State<Control>,
    State(service): State<service::Firmware>,
    caller: Caller,
    Path(version): Path<String>,
    Params(params): Params<DeleteParams>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Admin)?;
    let force = params.force.unwrap_or(false);
    match control.delete_firmware(&version, force, &caller.by()).await? {
        FirmwareDeleted::Done(object) => {
            service.forget(&version);
            let images = service.images();
            images.forget(&object);
            if let Err(error) = images.store().delete(&object).await {
                // No release refers to it any more: it is removed later, with others that were left behind.
                tracing::info!(%error, object, "a deleted image was not removed yet");
            }
            Ok(StatusCode::NO_CONTENT)
        }
        FirmwareDeleted::NotFound => Err(no_firmware()),
        FirmwareDeleted::Needed(by) => {
            Err(ApiError::new(Code::Conflict, format!("{by}; ?force=true deletes it all the same")))
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckParams {
    /// The device that asks; not needed with a device's own credentials.
    device_id: Option<String>,
    /// What it runs; what it last said unless given.
    current_version: Option<String>,
    /// Its hardware; what it last said unless given.
    hardware: Option<String>,
}

/// Whether there is newer firmware for a device, and where. A device asks with its own credentials
/// (Basic) and gets a URL with a token of its own. A person or key asks what a device would be offered;
/// their URL takes a login.
#[utoipa::path(get, path = "/api/firmware/check", tag = "firmware", params(CheckParams),
    responses((status = 200, body = FirmwareCheck), (status = 404, body = Problem)))]
pub(super) async fn check(
    State(control): State<Control>,
    State(service): State<service::Firmware>,
    State(authenticator): State<Authenticator>,
    Params(params): Params<CheckParams>,
    request: Request,
) -> Result<Json<FirmwareCheck>, ApiError> {
    let (mut parts, _) = request.into_parts();
    let identification = Identification { token: None, device_id: params.device_id.as_deref() };
    let caller = service.caller(&authenticator, &mut parts, identification).await?;
    answer_check(&control, &service, caller, params).await
}

async fn answer_check(
    control: &Control,
    service: &service::Firmware,
    caller: FirmwareCaller,
    params: CheckParams,
) -> Result<Json<FirmwareCheck>, ApiError> {
    let short = |field: &str, value: &Option<String>| {
        value.as_deref().map_or(Ok(()), |text| checks::short_text(field, text))
    };
    short("current_version", &params.current_version)?;
    short("hardware", &params.hardware)?;
    let is_device = matches!(caller, FirmwareCaller::Device(_));
    let device = match (caller, params.device_id) {
        (FirmwareCaller::Device(id), Some(claimed)) if id != claimed => {
            let detail = "a device asks for itself alone";
            return Err(ApiError::new(Code::Forbidden, detail));
        }
        (FirmwareCaller::Device(id), _) => control.device(&id, None).await?,
        (FirmwareCaller::Person(person), Some(id)) => {
            Some(find_device(control, &person, &id).await?)
        }
        (FirmwareCaller::Person(_), None) => None,
    };
    let asker = Asker {
        running: params
            .current_version
            .or(device.as_ref().and_then(|d| d.firmware_version.clone())),
        hardware: params.hardware.or(device.as_ref().and_then(|d| d.hardware.clone())),
        device_id: device.map(|d| d.device_id),
        is_device,
    };
    service.offer(&asker).await.map(Json)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DownloadParams {
    /// The token of a URL that a check or an `ota_update` gave; with it no login is needed.
    t: Option<String>,
    /// The device that asks, where `firmware.allow_bare_device_id` is set.
    device_id: Option<String>,
}

/// A release's image, whole or a range of it. The bytes are those that were uploaded, or none: a
/// stored image that was changed is not served. `ETag` is the SHA-256; give it as `If-Range` to go on
/// where a download broke off.
#[utoipa::path(get, path = "/api/firmware/download/{version}", tag = "firmware",
    params(("version" = String, Path, description = "The release's version"), DownloadParams),
    responses(
        (status = 200, description = "The image", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "A range of it", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "It is the one that you have"),
        (status = 404, body = Problem), (status = 416, body = Problem)))]
pub(super) async fn download(
    State(service): State<service::Firmware>,
    State(authenticator): State<Authenticator>,
    Path(version): Path<String>,
    Params(params): Params<DownloadParams>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let token = params.t.as_deref().map(|text| UrlToken { text, version: &version });
    let identification = Identification { token, device_id: params.device_id.as_deref() };
    let caller = service.caller(&authenticator, &mut parts, identification).await?;
    let request = DownloadRequest {
        caller,
        version: &version,
        method: &parts.method,
        headers: &parts.headers,
    };
    service.serve(&request).await
}

fn only_devices() -> ApiError {
    let detail = "here a device asks with its own credentials (Basic) alone";
    ApiError::new(Code::Forbidden, detail)
}

/// A check over plain HTTP, for modems that can't do TLS: only with a device's own credentials. Tokens and
/// keys of people must not travel over a line that anybody can read.
pub(super) async fn plain_check(
    State(control): State<Control>,
    State(service): State<service::Firmware>,
    State(authenticator): State<Authenticator>,
    Params(params): Params<CheckParams>,
    request: Request,
) -> Result<Json<FirmwareCheck>, ApiError> {
    let (mut parts, _) = request.into_parts();
    let authorization = parts.headers.get("authorization").and_then(|v| v.to_str().ok());
    let authorization = authorization.unwrap_or_default();
    let is_basic =
        authorization.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "));
    if parts.headers.contains_key("x-api-key") || !(authorization.is_empty() || is_basic) {
        return Err(only_devices());
    }
    let identification = Identification { token: None, device_id: params.device_id.as_deref() };
    let caller = service.caller(&authenticator, &mut parts, identification).await?;
    match caller {
        FirmwareCaller::Device(_) => answer_check(&control, &service, caller, params).await,
        FirmwareCaller::Person(_) => Err(only_devices()),
    }
}

/// A download over plain HTTP, for the same modems: only with a URL's token.
pub(super) async fn plain_download(
    service: State<service::Firmware>,
    authenticator: State<Authenticator>,
    version: Path<String>,
    params: Params<DownloadParams>,
    request: Request,
) -> Result<Response, ApiError> {
    if params.0.t.is_none() {
        let detail = "here a download takes the URL that a check or an ota_update gave";
        return Err(ApiError::new(Code::Unauthorized, detail));
    }
    download(service, authenticator, version, params, request).await
}
