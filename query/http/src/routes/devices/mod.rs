//! Devices: the fleet list, one device, and its latest reading.

mod edit;
mod import;

use acuvim_control::{Control, DeviceFilter, DeviceSort};
use acuvim_model::{
    Device, DeviceState, DeviceStatus, Group, LatestReading, Page, RuleBody, RuleMode,
    problem::{Code, Problem},
};
use acuvim_query_sql::{
    Sql,
    readings::{latest_of_device, rows_of},
};
use acuvim_rules::{Recent, VitalState};
use acuvim_wire::time::SECOND;
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    list::{List, paged},
    resource::Resource,
};
use crate::{auth::Caller, extract::Path, problem::ApiError};

pub(super) use edit::*;
pub(super) use import::*;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Items of a page, 1 to 1000; 50 unless given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// `online`, `degraded` or `offline`.
    status: Option<DeviceStatus>,
    /// Devices of this group.
    group_id: Option<Uuid>,
    /// Devices with this tag.
    tag: Option<String>,
    /// Devices with this firmware.
    firmware_version: Option<String>,
    /// Part of the id, name, MAC, IMEI, ICCID or meter serial, in any case.
    q: Option<String>,
    /// `device_id` (the default), `name`, `status`, `firmware_version`, `created_at`,
    /// `last_heartbeat` or `last_telemetry`; with `-` before it, the other way round.
    sort: Option<String>,
}

paged!(ListParams);

impl List<ListParams> {
    fn filter(self) -> Result<DeviceFilter, ApiError> {
        let Self { params, limit } = self;
        let sort = params.sort.as_deref().unwrap_or("device_id");
        let (name, descending) = match sort.strip_prefix('-') {
            Some(name) => (name, true),
            None => (sort, false),
        };
        let order = DeviceSort::ALL.into_iter().find(|(known, _)| *known == name);
        let Some((_, sort)) = order else {
            let names: Vec<&str> = DeviceSort::ALL.into_iter().map(|(name, _)| name).collect();
            return Err(ApiError::field("sort", format!("one of {}", names.join(", "))));
        };
        Ok(DeviceFilter {
            status: params.status,
            group_id: params.group_id,
            tag: params.tag,
            firmware_version: params.firmware_version,
            // No text that is searched is longer, so the rest could never match.
            q: params.q.map(|q| q.chars().take(100).collect()),
            sort,
            descending,
            after: params.cursor.as_deref().map(read_cursor).transpose()?,
            limit,
        })
    }
}

type Cursor = (serde_json::Value, String);

fn read_cursor(text: &str) -> Result<Cursor, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| ApiError::field("cursor", "is none that was given out"))
}

fn write_cursor(cursor: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).unwrap_or_default())
}

/// The devices.
#[utoipa::path(get, path = "/api/devices", tag = "devices", params(ListParams),
    responses((status = 200, body = Page<Device>)))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    list: List<ListParams>,
) -> Result<Json<Page<Device>>, ApiError> {
    let filter = list.filter()?;
    let (items, total) = control.devices(&filter, caller.scope()).await?;
    let full = i64::try_from(items.len()).is_ok_and(|n| n == filter.limit);
    let last = items.last().filter(|_| full);
    let next_cursor = last.map(|device| write_cursor(&filter.next(device)));
    Ok(Json(Page { items, total, next_cursor }))
}

/// One device.
#[utoipa::path(get, path = "/api/devices/{device_id}", tag = "devices",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<Json<Device>, ApiError> {
    find(&control, &caller, &device_id).await.map(Json)
}

/// Whether a device is there, and since when.
#[utoipa::path(get, path = "/api/devices/{device_id}/status", tag = "devices",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = DeviceState), (status = 404, body = Problem)))]
pub(super) async fn status(
    State(sql): State<Sql>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<Json<DeviceState>, ApiError> {
    let control = sql.control();
    let device = find(control, &caller, &device_id).await?;
    let missing = missing_settings(&sql, &device).await?;
    let vitals = control.vitals(&device.device_id).await?;
    let vitals = vitals.and_then(|vitals| serde_json::from_str::<VitalState>(&vitals).ok());
    let mut state = DeviceState::from(device);
    state.missing_settings = missing;
    state.clock_ahead_seconds =
        vitals.and_then(|vitals| vitals.clock_ahead()).map(|by| by as f64 / 1e6);
    Ok(Json(state))
}

/// What keeps rules from judging a device: settings that they need and that neither it nor its group
/// has, and gaps of theirs that are shorter than its own step.
async fn missing_settings(sql: &Sql, device: &Device) -> Result<Vec<String>, ApiError> {
    let rules: Vec<RuleBody> =
        sql.control().rules(None).await?.into_iter().map(|r| r.body).collect();
    let ours = |rule: &&RuleBody| {
        rule.mode != RuleMode::Off
            && rule.scope.has(&device.device_id, device.group_id, &device.tags)
    };
    let rules: Vec<&RuleBody> = rules.iter().filter(ours).collect();
    let mut missing = missing_nominals(sql.control(), device, &rules).await?;
    missing.extend(too_short_gaps(sql, device, &rules).await?);
    Ok(missing)
}

/// The gaps of rules that wait, as far as they are shorter than the time between a device's readings.
async fn too_short_gaps(
    sql: &Sql,
    device: &Device,
    rules: &[&RuleBody],
) -> Result<Vec<String>, ApiError> {
    let waits = |rule: &&&RuleBody| rule.for_seconds > 0 || rule.clear_for_seconds > 0;
    let gaps = rules.iter().filter(waits).filter_map(|rule| Some((rule.gap_seconds?, rule)));
    let gaps: Vec<(i64, &&RuleBody)> =
        gaps.map(|(gap, rule)| (i64::from(gap) * SECOND, rule)).collect();
    if gaps.is_empty() {
        return Ok(Vec::new());
    }
    // The id was checked: there is no quote in it.
    let last = format!(
        "SELECT CAST(ts AS BIGINT) AS at FROM (SELECT ts FROM telemetry WHERE device_id = '{}'
         ORDER BY ts DESC LIMIT 4) ORDER BY at DESC",
        device.device_id
    );
    let rows = rows_of(sql, last).await?;
    let times = rows.iter().rev().filter_map(|row| row.first()?.as_i64());
    let Some(step) = Recent::of(times).step() else { return Ok(Vec::new()) };
    let short = gaps.into_iter().filter(|(gap, _)| *gap < step);
    Ok(short.map(|(_, rule)| format!("gap_seconds of rule {}", rule.name)).collect())
}

/// The nominal values that rules need of a device and that neither it nor its group has.
async fn missing_nominals(
    control: &Control,
    device: &Device,
    rules: &[&RuleBody],
) -> Result<Vec<String>, ApiError> {
    let group = match device.group_id {
        Some(id) => control.group(id, None).await?,
        None => None,
    };
    let of_group = |get: fn(&Group) -> Option<f64>| group.as_ref().and_then(get);
    let has = [
        ("nominal_voltage_v", device.nominal_voltage_v.or(of_group(|g| g.nominal_voltage_v))),
        (
            "nominal_frequency_hz",
            device.nominal_frequency_hz.or(of_group(|g| g.nominal_frequency_hz)),
        ),
    ];
    let lacks: Vec<&str> = has.iter().filter(|(_, v)| v.is_none()).map(|(name, _)| *name).collect();
    let needed = |name: &str| {
        rules.iter().any(|rule| {
            let texts = [Some(&rule.when), rule.clear_when.as_ref()];
            texts.into_iter().flatten().any(|text| text.contains(name))
        })
    };
    Ok(lacks.into_iter().filter(|name| needed(name)).map(str::to_owned).collect())
}

/// The device's latest reading: the one with the highest `ts`, whenever it arrived. A logger that
/// replaced another answers with that one's last, as long as it has sent none itself.
#[utoipa::path(get, path = "/api/devices/{device_id}/telemetry", tag = "telemetry",
    params(("device_id" = String, Path, description = "The device's id")),
    responses((status = 200, body = LatestReading), (status = 404, body = Problem)))]
pub(super) async fn latest(
    State(sql): State<Sql>,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<Response, ApiError> {
    let control = sql.control();
    let mut device = find(control, &caller, &device_id).await?;
    // The tail has what was received last: without it an older reading would pass for the latest.
    sql.require_tail()?;
    loop {
        let until = device.replaced_at.map(|at| at.timestamp_micros());
        if let Some(reading) = latest_of_device(&sql, &device.device_id, until).await? {
            return Ok(([(header::CONTENT_TYPE, "application/json")], reading).into_response());
        }
        let before = match &device.replaces {
            // Without the scope: whoever sees a device sees the loggers that stood in its place before.
            Some(before) => control.device(before, None).await?,
            None => None,
        };
        match before {
            Some(before) => device = before,
            None => {
                let detail = "the device has not sent a reading yet";
                return Err(ApiError::new(Code::NotFound, detail));
            }
        }
    }
}

/// A device that the caller sees. Every other one is as if it did not exist.
pub(super) async fn find(
    control: &Control,
    caller: &Caller,
    device_id: &str,
) -> Result<Device, ApiError> {
    DEVICE.found(control.device(device_id, caller.scope()).await?)
}

const DEVICE: Resource = Resource("device");

pub(super) fn no_device() -> ApiError {
    DEVICE.missing()
}
