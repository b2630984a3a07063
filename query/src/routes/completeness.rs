//! What is there of a device's readings, and what is not; and where one reading is.

use std::sync::Arc;

use acuvim_schemas::{
    api::{BootCompleteness, Completeness, HourCompleteness, Trace},
    payload::whole as whole_number,
    problem::{Code, Problem},
    time::{HOUR, to_rfc3339},
};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::{devices::find, moment};
use crate::{
    App,
    auth::{Caller, now},
    problem::{ApiError, Params},
    sql::{internal_rows, readings_between},
};

/// Days that one request looks at.
const DAYS: i64 = 31;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RangeParams {
    /// From when, by event time; a day before `to` unless given.
    from: Option<String>,
    /// Until when; now unless given. 31 days later at most.
    to: Option<String>,
}

/// How complete a device's readings are: stored against expected, gaps in its own numbers,
/// duplicates and dead letters.
#[utoipa::path(get, path = "/api/devices/{device_id}/completeness", tag = "telemetry",
    params(("device_id" = String, Path, description = "The device's id"), RangeParams),
    responses((status = 200, body = Completeness), (status = 404, body = Problem)))]
pub(super) async fn completeness(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(device_id): Path<String>,
    Params(params): Params<RangeParams>,
) -> Result<Json<Completeness>, ApiError> {
    let device = find(&app, &caller, &device_id).await?;
    let to = params.to.as_deref().map_or(Ok(now()), |to| moment("to", to))?;
    let day = chrono::TimeDelta::days(1);
    let from = params.from.as_deref().map_or(Ok(to - day), |from| moment("from", from))?;
    if from >= to || to - from > chrono::TimeDelta::days(DAYS) {
        return Err(ApiError::field("from", format!("before to, by {DAYS} days at most")));
    }
    let id = &device.device_id;
    let (begin, end) = (from.timestamp_micros(), to.timestamp_micros());
    // Nothing is expected of what is yet to come.
    let due = (begin, now().timestamp_micros().clamp(begin, end));
    let between = |column: &str| {
        format!(
            "device_id = '{id}' AND {column} >= to_timestamp_micros({begin})
             AND {column} < to_timestamp_micros({end})"
        )
    };
    let hours = internal_rows(
        &app,
        format!(
            "SELECT date_trunc('hour', ts) AS hour, count(*) FROM telemetry WHERE {}
             GROUP BY 1 ORDER BY 1",
            between("ts")
        ),
    );
    let boots = internal_rows(
        &app,
        format!(
            "SELECT boot, min(seq), max(seq), count(DISTINCT seq) FROM telemetry
             WHERE {} AND seq IS NOT NULL GROUP BY boot ORDER BY boot LIMIT 1000",
            between("ts")
        ),
    );
    let faults = internal_rows(
        &app,
        format!(
            "SELECT coalesce(sum(duplicates), 0), coalesce(sum(dead_letters), 0),
             coalesce(sum(same_ts), 0) FROM ledger WHERE {}",
            between("minute")
        ),
    );
    let (hours, boots, faults) = (hours.await?, boots.await?, faults.await?);
    let whole = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
    let interval_s = interval(&app, id).await?;
    let boots: Vec<BootCompleteness> = boots
        .iter()
        .map(|row| {
            let (first, last) = (whole(row.get(1)), whole(row.get(2)));
            BootCompleteness {
                boot: row.first().and_then(Value::as_i64),
                first_seq: first,
                last_seq: last,
                missing: last
                    .saturating_sub(first)
                    .saturating_add(1)
                    .saturating_sub(whole(row.get(3))),
            }
        })
        .collect();
    let faults = faults.first();
    let hours = by_hour(&hours, (begin, end), due, interval_s);
    Ok(Json(Completeness {
        device_id: id.clone(),
        from: to_rfc3339(begin),
        to: to_rfc3339(end),
        stored: hours.iter().map(|hour| hour.stored).sum(),
        expected: interval_s.map(|s| (due.1 - due.0) / (s * 1_000_000)),
        interval_s,
        duplicates: whole(faults.and_then(|row| row.first())),
        dead_letters: whole(faults.and_then(|row| row.get(1))),
        same_ts: whole(faults.and_then(|row| row.get(2))),
        replayed: app.control().replays_of(id, from, to).await?,
        missing_seq: boots.iter().fold(0, |sum, boot| boot.missing.saturating_add(sum)),
        boots,
        hours,
    }))
}

/// Every hour of a time, also those without a reading.
fn by_hour(
    rows: &[Vec<Value>],
    (from, to): (i64, i64),
    due: (i64, i64),
    interval: Option<i64>,
) -> Vec<HourCompleteness> {
    let first = from.div_euclid(HOUR) * HOUR;
    let starts = (0..).map(|n| first + n * HOUR).take_while(|start| *start < to);
    let hour = |start: i64| {
        let name = to_rfc3339(start);
        let row = rows.iter().find(|row| row.first().and_then(Value::as_str) == Some(&name));
        let stored = row.and_then(|row| row.get(1)).and_then(Value::as_i64).unwrap_or(0);
        let span = (start + HOUR).min(due.1) - start.max(due.0);
        let expected = interval.map(|s| span.max(0) / (s * 1_000_000));
        HourCompleteness { hour: name, stored, expected }
    };
    starts.map(hour).collect()
}

/// Seconds between readings, as the device is configured.
async fn interval(app: &App, device_id: &str) -> Result<Option<i64>, ApiError> {
    let config = app.control().config(device_id).await?;
    let config = serde_json::to_value(config).map_err(|e| ApiError::internal(&e))?;
    let of = |side: &str| {
        let value = config.get(side)?.get("telemetry")?.get("interval_s")?;
        whole_number(value).filter(|s| (1..=86_400).contains(s))
    };
    Ok(of("reported").or_else(|| of("desired")))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceParams {
    /// The reading's time, exactly.
    ts: String,
}

/// Where one reading is: when it was received, its place in the log, and whether the lake has it.
#[utoipa::path(get, path = "/api/devices/{device_id}/telemetry/trace", tag = "telemetry",
    params(("device_id" = String, Path, description = "The device's id"), TraceParams),
    responses((status = 200, body = Trace), (status = 404, body = Problem)))]
pub(super) async fn trace(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(device_id): Path<String>,
    Params(params): Params<TraceParams>,
) -> Result<Json<Trace>, ApiError> {
    let device = find(&app, &caller, &device_id).await?;
    let ts = moment("ts", &params.ts)?.timestamp_micros();
    // Whoever has read it elsewhere may know it to the millisecond alone.
    let found = readings_between(&app, &device.device_id, ts, ts + 999, 1).await?;
    let none = || ApiError::new(Code::NotFound, "the device has no stored reading of that time");
    let reading = found.readings.first().ok_or_else(none)?;
    let text = |name: &str| reading.get(name).and_then(Value::as_str).map(str::to_owned);
    let whole = |name: &str| reading.get(name).and_then(Value::as_i64).unwrap_or(0);
    let (partition, offset) = (whole("partition"), whole("offset"));
    let partition_number = u32::try_from(partition).unwrap_or(0);
    Ok(Json(Trace {
        device_id: device.device_id,
        ts: text("ts").unwrap_or_default(),
        received_at: text("received_at").unwrap_or_default(),
        source: text("source"),
        identity: format!("{}:{partition}:{offset}:{}", whole("epoch"), whole("item")),
        // What is of an epoch before this one was committed before the log was laid out anew.
        committed: whole("epoch") != i64::from(app.lake().epoch())
            || offset < app.lake().next_offset(partition_number),
        lake_version: found.lake_version,
    }))
}
