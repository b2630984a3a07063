//! How complete a device's readings are, and where one reading is.

use std::ops::Range;

use acuvim_control::Control;
use acuvim_model::{
    BootCompleteness, Completeness, HourCompleteness, Trace,
    problem::{Code, Problem},
};
use acuvim_query_sql::{
    Sql,
    readings::{readings_between, rows_of},
};
use acuvim_wire::{
    Micros,
    payload::whole as whole_number,
    time::{HOUR, to_rfc3339},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::{devices::find, list::moment};
use crate::{
    auth::Caller,
    clock::now,
    extract::{Params, Path},
    problem::ApiError,
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
    State(sql): State<Sql>,
    caller: Caller,
    Path(device_id): Path<String>,
    Params(params): Params<RangeParams>,
) -> Result<Json<Completeness>, ApiError> {
    let control = sql.control();
    let device = find(control, &caller, &device_id).await?;
    let to = params.to.as_deref().map_or(Ok(now()), |to| moment("to", to))?;
    let day = chrono::TimeDelta::days(1);
    let from = params.from.as_deref().map_or(Ok(to - day), |from| moment("from", from))?;
    if from >= to || to - from > chrono::TimeDelta::days(DAYS) {
        return Err(ApiError::field("from", format!("before to, by {DAYS} days at most")));
    }
    let id = device.device_id;
    let range = from.timestamp_micros()..to.timestamp_micros();
    // Nothing is expected of the time that is yet to come.
    let due = range.start..now().timestamp_micros().clamp(range.start, range.end);
    let stored = Stored { sql: &sql, device_id: &id, range: range.clone() };
    let rows = stored.by_hour().await?;
    let boots = stored.boots().await?;
    let faults = stored.faults().await?;
    let interval_s = interval(control, &id).await?;
    let hours = by_hour(&rows, &range, &due, interval_s);
    Ok(Json(Completeness {
        from: to_rfc3339(range.start),
        to: to_rfc3339(range.end),
        stored: hours.iter().map(|hour| hour.stored).sum(),
        expected: interval_s.map(|s| (due.end - due.start) / (s * 1_000_000)),
        interval_s,
        duplicates: whole(faults.first()),
        dead_letters: whole(faults.get(1)),
        same_ts: whole(faults.get(2)),
        replayed: control.replays_of(&id, from, to).await?,
        missing_seq: boots.iter().fold(0, |sum, boot| boot.missing.saturating_add(sum)),
        boots,
        hours,
        device_id: id,
    }))
}

/// What the tables have of a device in a range of times.
struct Stored<'a> {
    sql: &'a Sql,
    /// Checked: an id has no quote in it.
    device_id: &'a str,
    range: Range<Micros>,
}

impl Stored<'_> {
    fn condition(&self, column: &str) -> String {
        let Self { device_id, range, .. } = self;
        format!(
            "device_id = '{device_id}' AND {column} >= to_timestamp_micros({})
             AND {column} < to_timestamp_micros({})",
            range.start, range.end
        )
    }

    /// Readings by hour.
    async fn by_hour(&self) -> Result<Vec<Vec<Value>>, ApiError> {
        let query = format!(
            "SELECT date_trunc('hour', ts) AS hour, count(*) FROM telemetry WHERE {}
             GROUP BY 1 ORDER BY 1",
            self.condition("ts")
        );
        Ok(rows_of(self.sql, query).await?)
    }

    /// The device's own numbers of its readings, by boot.
    async fn boots(&self) -> Result<Vec<BootCompleteness>, ApiError> {
        let query = format!(
            "SELECT boot, min(seq), max(seq), count(DISTINCT seq) FROM telemetry
             WHERE {} AND seq IS NOT NULL GROUP BY boot ORDER BY boot LIMIT 1000",
            self.condition("ts")
        );
        let boot = |row: &Vec<Value>| {
            let (first_seq, last_seq) = (whole(row.get(1)), whole(row.get(2)));
            // The numbers come from the device: two extreme ones must not overflow.
            let sent = last_seq.saturating_sub(first_seq).saturating_add(1);
            let missing = sent.saturating_sub(whole(row.get(3)));
            let boot = row.first().and_then(Value::as_i64);
            BootCompleteness { boot, first_seq, last_seq, missing }
        };
        Ok(rows_of(self.sql, query).await?.iter().map(boot).collect())
    }

    /// Duplicates, dead letters, and those of them that contradict a stored reading.
    async fn faults(&self) -> Result<Vec<Value>, ApiError> {
        let query = format!(
            "SELECT coalesce(sum(duplicates), 0), coalesce(sum(dead_letters), 0),
             coalesce(sum(same_ts), 0) FROM ledger WHERE {}",
            self.condition("minute")
        );
        Ok(rows_of(self.sql, query).await?.into_iter().next().unwrap_or_default())
    }
}

fn whole(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_i64).unwrap_or(0)
}

/// Every hour of a range, also those without a reading.
fn by_hour(
    rows: &[Vec<Value>],
    range: &Range<Micros>,
    due: &Range<Micros>,
    interval_s: Option<i64>,
) -> Vec<HourCompleteness> {
    let first = range.start.div_euclid(HOUR) * HOUR;
    let starts = (0..).map(|n| first + n * HOUR).take_while(|start| *start < range.end);
    let hour = |start: Micros| {
        let name = to_rfc3339(start);
        let row = rows.iter().find(|row| row.first().and_then(Value::as_str) == Some(&name));
        let stored = whole(row.and_then(|row| row.get(1)));
        let length = (start + HOUR).min(due.end) - start.max(due.start);
        let expected = interval_s.map(|s| length.max(0) / (s * 1_000_000));
        HourCompleteness { hour: name, stored, expected }
    };
    starts.map(hour).collect()
}

/// Seconds between readings, as the device is configured.
async fn interval(control: &Control, device_id: &str) -> Result<Option<i64>, ApiError> {
    let config = control.config(device_id).await?;
    let config = serde_json::to_value(config).map_err(|e| ApiError::internal(&e))?;
    let of = |side: &str| {
        let value = config.get(side)?.get("telemetry")?.get("interval_s")?;
        whole_number(value).filter(|s| (1..=86_400).contains(s))
    };
    // What the device has confirmed counts first: the desired interval may not have reached it.
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
    State(sql): State<Sql>,
    caller: Caller,
    Path(device_id): Path<String>,
    Params(params): Params<TraceParams>,
) -> Result<Json<Trace>, ApiError> {
    let device = find(sql.control(), &caller, &device_id).await?;
    let ts = moment("ts", &params.ts)?.timestamp_micros();
    // Callers may know the time only to the millisecond, from an answer of another system.
    let found = readings_between(&sql, &device.device_id, ts..=ts + 999, 1).await?;
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
        // Readings of an earlier epoch were committed before the log was laid out anew.
        committed: whole("epoch") != i64::from(sql.lake().epoch())
            || offset < sql.lake().next_offset(partition_number),
        lake_version: found.view.lake_version,
    }))
}

#[cfg(test)]
mod tests;
