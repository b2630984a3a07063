//! Creating, editing, replacing and deleting devices.

use std::sync::Arc;

use acuvim_control::{Control, Created, Edited, Replaced};
use acuvim_lakehouse::Lake;
use acuvim_model::{
    CreatedDevice, Device, DeviceCredentials, DeviceEdit, NewDevice, ReplaceRequest, Role,
    problem::{Code, Problem},
};
use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Map, Value};

use super::{find, no_device};
use crate::{
    auth::Caller,
    checks,
    extract::{Body, Path, editable},
    problem::ApiError,
};

fn no_group() -> ApiError {
    ApiError::field("group_id", "there is no such group")
}

/// Make a device before it is heard of. Its MQTT secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/devices", tag = "devices", request_body = NewDevice,
    responses((status = 201, body = CreatedDevice), (status = 409, body = Problem)))]
pub(crate) async fn create(
    State(control): State<Control>,
    caller: Caller,
    Body(new): Body<NewDevice>,
) -> Result<(StatusCode, Json<CreatedDevice>), ApiError> {
    caller.require_all(Role::Admin)?;
    checks::device_id("device_id", &new.device_id)?;
    checks::device_edit(&new.as_edit())?;
    match control.create_device(&new, &caller.by()).await? {
        Created::Done(created) => Ok((StatusCode::CREATED, Json(*created))),
        Created::NoGroup => Err(no_group()),
        Created::Taken => {
            let detail = "there is a device of that id; POST .../credentials makes it a new secret";
            Err(ApiError::new(Code::Conflict, detail))
        }
    }
}

/// Write anew what a person says of a device: what is absent is emptied, but for `enabled`, which
/// stays. Read-only fields are passed over.
#[utoipa::path(put, path = "/api/devices/{device_id}", tag = "devices", request_body = DeviceEdit,
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(crate) async fn put(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Device>, ApiError> {
    let given: DeviceEdit = editable(body, &Device::READ_ONLY)?;
    let edit = DeviceEdit {
        name: given.name.or(Some(None)),
        description: given.description.or(Some(None)),
        group_id: given.group_id.or(Some(None)),
        tags: given.tags.or(Some(None)),
        nominal_voltage_v: given.nominal_voltage_v.or(Some(None)),
        nominal_frequency_hz: given.nominal_frequency_hz.or(Some(None)),
        max_power_kw: given.max_power_kw.or(Some(None)),
        counter_end: given.counter_end.or(Some(None)),
        time_zone: given.time_zone.or(Some(None)),
        enabled: given.enabled,
    };
    change(&control, &caller, &device_id, &edit).await
}

/// Change some of what a person says of a device: null empties a field.
#[utoipa::path(patch, path = "/api/devices/{device_id}", tag = "devices",
    request_body = DeviceEdit,
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(crate) async fn patch(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<Device>, ApiError> {
    let edit: DeviceEdit = editable(body, &[])?;
    change(&control, &caller, &device_id, &edit).await
}

async fn change(
    control: &Control,
    caller: &Caller,
    device_id: &str,
    edit: &DeviceEdit,
) -> Result<Json<Device>, ApiError> {
    caller.require(Role::Operator)?;
    if edit.enabled.is_some() {
        caller.require(Role::Admin)?;
    }
    checks::device_edit(edit)?;
    if let Some(Some(group)) = edit.group_id
        && control.group(group, caller.scope()).await?.is_none()
    {
        return Err(no_group());
    }
    match control.edit_device(device_id, edit, caller.scope(), &caller.by()).await? {
        Edited::Done(device) => Ok(Json(*device)),
        Edited::NotFound => Err(no_device()),
        Edited::NoGroup => Err(no_group()),
    }
}

/// Forget a device: its row, secret, configuration and open commands. Its readings stay in the
/// lake. Should it speak again, it is new.
#[utoipa::path(delete, path = "/api/devices/{device_id}", tag = "devices",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require(Role::Admin)?;
    match control.delete_device(&device_id, caller.scope(), &caller.by()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_device()),
    }
}

/// Put a new logger in the place of one that is broken or gone. It takes over what a person said of
/// the old one and what that was to be configured as; the old one can't connect any more. The new
/// one's MQTT secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/devices/{device_id}/replace", tag = "devices",
    request_body = ReplaceRequest,
    params(("device_id" = String, Path, description = "The old logger's id")),
    responses((status = 200, body = CreatedDevice), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(crate) async fn replace(
    State(control): State<Control>,
    State(lake): State<Arc<Lake>>,
    caller: Caller,
    Path(device_id): Path<String>,
    Body(request): Body<ReplaceRequest>,
) -> Result<Json<CreatedDevice>, ApiError> {
    caller.require(Role::Admin)?;
    let new = &request.new_device_id;
    checks::device_id("new_device_id", new)?;
    // A deleted device may still have readings in the lake when the audit of its deletion is gone.
    if lake.latest().has(new) && control.device(new, None).await?.is_none() {
        return Err(match caller.scope() {
            Some(_) => no_device(),
            None => ApiError::new(Code::Conflict, Control::KNOWN_ID),
        });
    }
    match control.replace_device(&device_id, new, caller.scope(), &caller.by()).await? {
        Replaced::Done(created) => Ok(Json(*created)),
        Replaced::NotFound => Err(no_device()),
        Replaced::Conflict(reason) => Err(ApiError::new(Code::Conflict, reason)),
    }
}

/// Make the device's MQTT secret, or a new one in place of the old, which ends at once, also for a
/// connection that is open. It is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/devices/{device_id}/credentials", tag = "devices",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 201, body = DeviceCredentials), (status = 404, body = Problem)))]
pub(crate) async fn make_credentials(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<(StatusCode, Json<DeviceCredentials>), ApiError> {
    caller.require(Role::Admin)?;
    checks::device_id("device_id", &device_id)?;
    // Without a scope a secret may be made before the device is heard of.
    if caller.scope().is_some() {
        find(&control, &caller, &device_id).await?;
    }
    let password = control.rotate_device_secret(&device_id, &caller.by()).await?;
    Ok((StatusCode::CREATED, Json(DeviceCredentials { username: device_id, password })))
}

/// Take the device's MQTT secret away at once, also from a connection that is open.
#[utoipa::path(delete, path = "/api/devices/{device_id}/credentials", tag = "devices",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn revoke_credentials(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require(Role::Admin)?;
    find(&control, &caller, &device_id).await?;
    match control.revoke_device_secret(&device_id, &caller.by()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::new(Code::NotFound, "the device has no secret")),
    }
}
