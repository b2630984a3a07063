//! Releases of firmware: uploading, listing and changing them, and what devices ask of them.

use std::sync::Arc;

use acuvim_control::FirmwareDeleted;
use acuvim_schemas::{
    api::{Firmware, FirmwareCheck, FirmwareEdit, FirmwareUpload, Page, Role},
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{FromRequestParts as _, Multipart, Path, Request, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{devices::find as find_device, next_cursor, page_limit};
use crate::{
    App,
    auth::Caller,
    checks,
    firmware::{Asker, FirmwareCaller, Shown, no_firmware, offer, serve, upload as take},
    problem::{ApiError, Body, Params},
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

/// The releases, newest upload first.
#[utoipa::path(get, path = "/api/firmware", tag = "firmware", params(ListParams),
    responses((status = 200, body = Page<Firmware>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Firmware>>, ApiError> {
    let limit = page_limit(params.limit)?;
    let wanted = |firmware: &Firmware| {
        let its = firmware.hardware.as_deref();
        params.active.is_none_or(|active| firmware.active == active)
            && params
                .hardware
                .as_deref()
                .is_none_or(|wanted| its.is_none_or(|its| its.eq_ignore_ascii_case(wanted)))
    };
    let all: Vec<Firmware> = app
        .control()
        .firmware_list(false)
        .await?
        .into_iter()
        .map(|stored| stored.firmware)
        .filter(wanted)
        .collect();
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let behind = match &params.cursor {
        None => 0,
        Some(cursor) => {
            let at = all.iter().position(|firmware| firmware.version == *cursor);
            let none = || ApiError::field("cursor", "not a next_cursor of this list");
            at.ok_or_else(none)? + 1
        }
    };
    let items: Vec<Firmware> =
        all.into_iter().skip(behind).take(usize::try_from(limit).unwrap_or(0)).collect();
    let next_cursor = next_cursor(&items, limit, |firmware| firmware.version.clone());
    Ok(Json(Page { items, total, next_cursor }))
}

/// Upload a release. Its image is checked to the last byte before anything is stored: a file that is
/// damaged, cut short, for another chip or no application is refused with what is wrong. The same
/// bytes under the same version again are a 200, other bytes a 409.
#[utoipa::path(post, path = "/api/firmware", tag = "firmware",
    request_body(content = FirmwareUpload, content_type = "multipart/form-data"),
    responses((status = 201, body = Firmware), (status = 200, body = Firmware),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<Firmware>), ApiError> {
    use axum::extract::FromRequest as _;
    caller.require_all(Role::Operator)?;
    let busy = |_| ApiError::new(Code::TooManyRequests, "two uploads run already; try again");
    let _permit = app.uploads.try_acquire().map_err(busy)?;
    let parts = Multipart::from_request(request, &()).await.map_err(|e| {
        let detail =
            format!("send the form as Content-Type: multipart/form-data; {}", e.body_text());
        ApiError::new(Code::UnsupportedMediaType, detail)
    })?;
    let (firmware, new) = take(&app, &caller, parts).await?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(firmware)))
}

/// A release.
#[utoipa::path(get, path = "/api/firmware/{version}", tag = "firmware",
    params(("version" = String, Path, description = "The release's version")),
    responses((status = 200, body = Firmware), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    _caller: Caller,
    Path(version): Path<String>,
) -> Result<Json<Firmware>, ApiError> {
    let found = app.control().firmware(&version).await?;
    found.map(|stored| Json(stored.firmware)).ok_or_else(no_firmware)
}

/// Change whether checks offer a release, its notes, and whether it is mandatory. The image stays what
/// it is.
#[utoipa::path(put, path = "/api/firmware/{version}", tag = "firmware", request_body = FirmwareEdit,
    params(("version" = String, Path, description = "The release's version")),
    responses((status = 200, body = Firmware), (status = 404, body = Problem)))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(version): Path<String>,
    Body(resource): Body<serde_json::Map<String, serde_json::Value>>,
) -> Result<Json<Firmware>, ApiError> {
    caller.require_all(Role::Operator)?;
    let edit: FirmwareEdit = crate::problem::editable(resource, &READ_ONLY)?;
    if let Some(notes) = &edit.release_notes {
        checks::long_text("release_notes", notes)?;
    }
    let changed = app.control().edit_firmware(&version, &edit, &caller.by()).await?;
    app.passes.forget(&version);
    changed.map(Json).ok_or_else(no_firmware)
}

/// What a release sent back as it was read has beside what can be changed.
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
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(version): Path<String>,
    Params(params): Params<DeleteParams>,
) -> Result<StatusCode, ApiError> {
    caller.require_all(Role::Admin)?;
    let force = params.force.unwrap_or(false);
    match app.control().delete_firmware(&version, force, &caller.by()).await? {
        FirmwareDeleted::Done(object) => {
            app.passes.forget(&version);
            let images = &app.parts.firmware.images;
            images.forget(&object);
            if let Err(error) = images.store().delete(&object).await {
                // Nothing refers to it any more; the one who cleans up finds it.
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
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<FirmwareCheck>, ApiError> {
    checked(app, request, true).await
}

/// Answers a check, of people too where their secrets do not travel in plain sight.
async fn checked(
    app: Arc<App>,
    request: Request,
    people: bool,
) -> Result<Json<FirmwareCheck>, ApiError> {
    let (mut parts, _) = request.into_parts();
    let Params(params) = Params::<CheckParams>::from_request_parts(&mut parts, &app).await?;
    let shown = Shown { token: None, device_id: params.device_id.as_deref() };
    let caller = FirmwareCaller::of(&app, &mut parts, shown).await?;
    let short = |field: &str, value: &Option<String>| {
        value.as_deref().map_or(Ok(()), |text| checks::short_text(field, text))
    };
    short("current_version", &params.current_version)?;
    short("hardware", &params.hardware)?;
    let is_device = matches!(caller, FirmwareCaller::Device(_));
    if !is_device && !people {
        let detail = "here a device asks with its own credentials (Basic) alone";
        return Err(ApiError::new(Code::Forbidden, detail));
    }
    let device = match (caller, params.device_id) {
        (FirmwareCaller::Device(id), Some(said)) if id != said => {
            let detail = "a device asks for itself alone";
            return Err(ApiError::new(Code::Forbidden, detail));
        }
        (FirmwareCaller::Device(id), _) => app.control().device(&id, None).await?,
        (FirmwareCaller::Person(person), Some(id)) => Some(find_device(&app, &person, &id).await?),
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
    offer(&app, &asker).await.map(Json)
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
    State(app): State<Arc<App>>,
    Path(version): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let Params(params) = Params::<DownloadParams>::from_request_parts(&mut parts, &app).await?;
    let token = params.t.as_deref().map(|token| (token, version.as_str()));
    let shown = Shown { token, device_id: params.device_id.as_deref() };
    let caller = FirmwareCaller::of(&app, &mut parts, shown).await?;
    serve(&app, &caller, &version, (&parts.method, &parts.headers)).await
}

/// What modems reach that can't do TLS: a check with a device's own credentials, and downloads with a
/// URL's token. What a person or key would log in with has no place on a plain line.
pub(super) async fn plain_check(
    state: State<Arc<App>>,
    request: Request,
) -> Result<Json<FirmwareCheck>, ApiError> {
    let headers = request.headers();
    let scheme = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let basic = scheme.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "));
    if headers.contains_key("x-api-key") || !(scheme.is_empty() || basic) {
        let detail = "here a device asks with its own credentials (Basic) alone";
        return Err(ApiError::new(Code::Forbidden, detail));
    }
    let State(app) = state;
    checked(app, request, false).await
}

/// The other half: see [`plain_check`].
pub(super) async fn plain_download(
    state: State<Arc<App>>,
    version: Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    if !query.split('&').any(|pair| pair.starts_with("t=")) {
        let detail = "here a download takes the URL that a check or an ota_update gave";
        return Err(ApiError::new(Code::Unauthorized, detail));
    }
    download(state, version, request).await
}
