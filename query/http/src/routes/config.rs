//! Devices' configuration: the desired one, the one that the device confirmed, and the history of changes.

use std::{sync::Arc, time::Duration};

use acuvim_control::{Control, NewCommand};
use acuvim_model::{
    CommandAccepted, CommandRequest, CommandStatus, ConfigChange, ConfigRequest, DeviceConfig,
    Page, WifiScan,
    problem::{Code, Problem},
};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::{
    commands::{accepted, checked},
    devices::find,
    list::{List, PagesByNumber, page},
};
use crate::{
    auth::Caller,
    commands::CommandRules,
    extract::{Body, Params, Path},
    problem::ApiError,
};

/// How long a request waits for a scan, unless it says.
const SCAN_S: u64 = 20;
const LONGEST_SCAN_S: u64 = 50;

/// How often a waiting request checks for the answer.
const POLL: Duration = Duration::from_millis(100);

/// A device's configuration, secrets masked.
#[utoipa::path(get, path = "/api/devices/{device_id}/config", tag = "config",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = DeviceConfig), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<Json<DeviceConfig>, ApiError> {
    find(&control, &caller, &device_id).await?;
    Ok(Json(control.config(&device_id).await?))
}

/// Change what a section of a device's configuration is to be, and send it. It counts as reported
/// only once the device has confirmed it, and is sent again whenever the device comes back until it
/// has.
#[utoipa::path(post, path = "/api/devices/{device_id}/config", tag = "config",
    request_body = ConfigRequest,
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 202, body = CommandAccepted), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
pub(super) async fn set(
    State(control): State<Control>,
    State(rules): State<Arc<CommandRules>>,
    caller: Caller,
    Path(device_id): Path<String>,
    Body(request): Body<ConfigRequest>,
) -> Result<(StatusCode, Json<CommandAccepted>), ApiError> {
    let params = json!({"section": request.section, "values": request.values});
    let command = command("set_config", params);
    let new = NewCommand { device_id, ..checked(&rules, &caller, command).map_err(unnested)? };
    accepted(control.give_command(&new, caller.scope(), &caller.by()).await?)
}

fn command(name: &str, params: Value) -> CommandRequest {
    let params = match params {
        Value::Object(params) => params,
        _ => serde_json::Map::new(),
    };
    CommandRequest {
        command: name.to_owned(),
        params,
        timeout_seconds: None,
        deliver: acuvim_model::Deliver::Now,
        expires_seconds: None,
        idempotency_key: None,
        raw: false,
    }
}

/// A problem with a parameter of the command as one with a field of the request: the caller never saw the
/// command.
fn unnested(mut error: ApiError) -> ApiError {
    for fault in &mut error.problem.errors {
        if let Some(field) = fault.field.strip_prefix("params.") {
            fault.field = field.to_owned();
        }
    }
    error.problem.detail = error.problem.detail.replacen("params.", "", 1);
    error
}

/// Who changed what of a device's configuration; newest first.
#[utoipa::path(get, path = "/api/devices/{device_id}/config/history", tag = "config",
    params(("device_id" = String, Path, description = "The device's id"), PagesByNumber),
    responses((status = 200, body = Page<ConfigChange>), (status = 404, body = Problem)))]
pub(super) async fn history(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
    List { params, limit }: List<PagesByNumber>,
) -> Result<Json<Page<ConfigChange>>, ApiError> {
    find(&control, &caller, &device_id).await?;
    let (items, total) = control.config_changes(&device_id, params.cursor, limit).await?;
    Ok(page(items, total, limit, |change| change.version.to_string()))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ScanParams {
    /// How long to wait for the answer, 1 to 50; 20 unless given.
    timeout_seconds: Option<u64>,
}

/// The Wi-Fi networks that a device sees: sends `wifi_scan` and waits for the answer. If that takes
/// longer, 202 with the request_id to follow.
#[utoipa::path(get, path = "/api/devices/{device_id}/config/wifi/scan", tag = "config",
    params(("device_id" = String, Path, description = "The device's id"), ScanParams),
    responses((status = 200, body = WifiScan), (status = 202, body = CommandAccepted),
        (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn wifi_scan(
    State(control): State<Control>,
    State(rules): State<Arc<CommandRules>>,
    caller: Caller,
    Path(device_id): Path<String>,
    Params(params): Params<ScanParams>,
) -> Result<Response, ApiError> {
    let seconds = match params.timeout_seconds.unwrap_or(SCAN_S) {
        seconds @ 1..=LONGEST_SCAN_S => seconds,
        _ => return Err(ApiError::field("timeout_seconds", format!("1 to {LONGEST_SCAN_S}"))),
    };
    let scan = checked(&rules, &caller, command("wifi_scan", json!({})))?;
    let new = NewCommand { device_id, ..scan };
    let given = control.give_command(&new, caller.scope(), &caller.by()).await?;
    let (status, Json(accepted)) = accepted(given)?;
    let request_id = accepted.request_id;
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        tokio::time::sleep(POLL).await;
        // Polled, because the answer may be stored by another process.
        let Some(command) = control.command(request_id, caller.scope()).await? else { break };
        match command.status {
            CommandStatus::Success => {
                let data = command.response.as_ref().and_then(|r| r.get("data")).cloned();
                let data = data.unwrap_or(Value::Null);
                return Ok(Json(WifiScan { request_id, data }).into_response());
            }
            CommandStatus::Error => {
                let error = command.error.unwrap_or_default();
                return Err(ApiError::new(Code::Refused, format!("the device says: {error}")));
            }
            CommandStatus::Timeout => {
                return Err(ApiError::new(
                    Code::DeadlineExceeded,
                    command.error.unwrap_or_default(),
                ));
            }
            CommandStatus::Pending | CommandStatus::Sent | CommandStatus::Ack => {}
        }
    }
    Ok((status, Json(accepted)).into_response())
}
