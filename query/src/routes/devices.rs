//! Devices and their latest reading.

use std::sync::Arc;

use acuvim_control::DeviceFilter;
use acuvim_schemas::{
    api::{Device, DeviceCredentials, LatestReading, Page, Role},
    device::is_device_id,
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::Utc;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{next_cursor, page_limit};
use crate::{
    App,
    auth::Caller,
    problem::{ApiError, Params},
    sql::latest_reading,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Part of the id or the name.
    q: Option<String>,
}

/// The devices, by id.
#[utoipa::path(get, path = "/api/devices", tag = "devices", params(ListParams),
    responses((status = 200, body = Page<Device>), (status = 400, body = Problem),
        (status = 401, body = Problem)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Device>>, ApiError> {
    let limit = page_limit(params.limit)?;
    let filter = DeviceFilter { q: params.q, after: params.cursor, limit };
    let (items, total) = app.control().devices(&filter).await?;
    let next_cursor = next_cursor(&items, limit, |device| device.device_id.clone());
    Ok(Json(Page { items, total, next_cursor }))
}

/// One device.
#[utoipa::path(get, path = "/api/devices/{device_id}", tag = "devices",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    _caller: Caller,
    Path(device_id): Path<String>,
) -> Result<Json<Device>, ApiError> {
    app.control().device(&device_id).await?.map(Json).ok_or_else(no_device)
}

/// The device's latest reading: the one with the highest `ts`, whenever it arrived.
#[utoipa::path(get, path = "/api/devices/{device_id}/telemetry", tag = "telemetry",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = LatestReading), (status = 404, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn latest(
    State(app): State<Arc<App>>,
    _caller: Caller,
    Path(device_id): Path<String>,
) -> Result<Json<LatestReading>, ApiError> {
    if let Some(reason) = app.status().not_hot {
        return Err(ApiError::new(Code::Unavailable, reason));
    }
    match latest_reading(&app, &device_id).await? {
        Some(reading) => Ok(Json(reading)),
        None if app.control().device(&device_id).await?.is_some() => {
            Err(ApiError::new(Code::NotFound, "the device has not sent a reading yet"))
        }
        None => Err(no_device()),
    }
}

/// Make the device's MQTT secret, or a new one in place of the old, which ends at once for new
/// connections. It is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/devices/{device_id}/credentials", tag = "devices",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 201, body = DeviceCredentials), (status = 400, body = Problem),
        (status = 403, body = Problem)))]
pub(super) async fn credentials(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<(StatusCode, Json<DeviceCredentials>), ApiError> {
    caller.require(Role::Admin)?;
    if !is_device_id(&device_id) {
        return Err(ApiError::field("device_id", "1 to 32 characters of A-Z a-z 0-9 _ -"));
    }
    let password = app.control().rotate_device_secret(&device_id, Utc::now()).await?;
    tracing::info!(device_id, by = %caller.user.username, "device secret made");
    Ok((StatusCode::CREATED, Json(DeviceCredentials { username: device_id, password })))
}

fn no_device() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such device")
}
