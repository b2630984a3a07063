//! The fleet over a time, from rollups, ledger and memory.

use std::ops::Range;

use acuvim_lakehouse::{Lake, Latest, QUARTER};
use acuvim_model::{
    DashboardStats, EnergyStats, Freshness, HourStats, MessageStats, TableStats, TopDevice,
    problem::Problem,
};
use acuvim_query_sql::{Sql, encode::value_rows, engine::alias_rows};
use acuvim_tables::Table;
use acuvim_wire::{
    Micros,
    time::{DAY, HOUR, day_text, parse_rfc3339, to_datetime, to_rfc3339},
};
use axum::{Json, extract::State};
use chrono::Utc;
use datafusion::{error::Result as EngineResult, prelude::SessionContext};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::list::moment;
use crate::{auth::Caller, extract::Params, problem::ApiError};

/// The longest range of times.
const LONGEST: Micros = 400 * DAY;

/// Devices that are named as the largest importers.
const TOP: usize = 10;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsParams {
    /// RFC 3339; a day before `to` unless given. Taken to the quarter of an hour before.
    from: Option<String>,
    /// RFC 3339; now unless given. At most 400 days behind `from`. A quarter of an hour that has begun
    /// by then counts whole.
    to: Option<String>,
}

/// What the fleet did: messages, energy, power by hour, the largest consumers, freshness, storage.
#[utoipa::path(get, path = "/api/dashboard/stats", tag = "dashboard", params(StatsParams),
    responses((status = 200, body = DashboardStats), (status = 503, body = Problem)))]
pub(super) async fn stats(
    State(sql): State<Sql>,
    caller: Caller,
    Params(params): Params<StatsParams>,
) -> Result<Json<DashboardStats>, ApiError> {
    let now = Utc::now().timestamp_micros();
    let range = range(&params, now)?;
    let devices = match caller.scope() {
        Some(scope) => Some(sql.control().scoped_device_ids(scope).await?),
        None => None,
    };
    // Asked before the view is taken: rollups that end in between make the figures better, not worse.
    let complete = sql.lake().rollups_are_built().await?;
    let sees_all = devices.is_none();
    let (of, wanted) = (sql.clone(), range.clone());
    let work = sql.run_over_view(move |context| async move {
        let freshness = freshness(of.lake().latest(), devices.as_deref(), now);
        alias_rows(&context, Table::Rollup15m, "rolled", devices.as_deref()).await?;
        let figures = Figures::query(&context, &wanted, sees_all).await?;
        Ok((figures, freshness, sees_all.then(|| storage(of.lake())).transpose()))
    });
    let (_, (figures, freshness, storage)) = work.await?;
    let mut top_devices = Vec::with_capacity(figures.top.len());
    for (device_id, energy_import_kwh) in figures.top {
        let known = sql.control().device(&device_id, None).await?;
        let name = known.and_then(|device| device.name);
        top_devices.push(TopDevice { device_id, name, energy_import_kwh });
    }
    Ok(Json(DashboardStats {
        from: to_datetime(range.start).unwrap_or_default(),
        to: to_datetime(range.end).unwrap_or_default(),
        messages: figures.messages,
        readings: figures.sums.readings,
        devices: figures.sums.devices,
        energy: figures.sums.energy,
        power_by_hour: figures.hours,
        top_devices,
        freshness,
        storage: storage?,
        complete,
    }))
}

/// The time that is asked for, from the beginning of a quarter of an hour.
fn range(params: &StatsParams, now: Micros) -> Result<Range<Micros>, ApiError> {
    let at = |field: &str, text: Option<&String>, unless: Micros| match text {
        Some(text) => moment(field, text).map(|at| at.timestamp_micros()),
        None => Ok(unless),
    };
    let to = at("to", params.to.as_ref(), now)?;
    let from = at("from", params.from.as_ref(), to - DAY)?;
    if from >= to {
        return Err(ApiError::field("to", "later than from"));
    }
    if to - from > LONGEST {
        return Err(ApiError::field("to", "at most 400 days behind from"));
    }
    // Only now: the checks are of the caller's own range, not of the quarters that it begins in.
    Ok(from - from.rem_euclid(QUARTER)..to)
}

/// What the tables have of a range of times.
struct Figures {
    /// Only for callers who see every device: the ledger counts messages by partition, not by device.
    messages: Option<MessageStats>,
    sums: Sums,
    hours: Vec<HourStats>,
    /// The devices that imported most energy, and how much.
    top: Vec<(String, f64)>,
}

/// Sums over all devices.
struct Sums {
    readings: i64,
    devices: i64,
    energy: EnergyStats,
}

impl Figures {
    async fn query(
        context: &SessionContext,
        range: &Range<Micros>,
        sees_all: bool,
    ) -> EngineResult<Self> {
        let messages = match sees_all {
            true => Some(messages(context, &within("minute", range)).await?),
            false => None,
        };
        let within = within("ts", range);
        Ok(Self {
            messages,
            sums: sums(context, &within).await?,
            hours: power_by_hour(context, &within).await?,
            top: top_importers(context, &within).await?,
        })
    }
}

/// The condition that a column lies in a range of times.
fn within(column: &str, range: &Range<Micros>) -> String {
    let (from, to) = (to_rfc3339(range.start), to_rfc3339(range.end));
    format!("{column} >= TIMESTAMP '{from}' AND {column} < TIMESTAMP '{to}'")
}

async fn messages(context: &SessionContext, within: &str) -> EngineResult<MessageStats> {
    let query = format!(
        "SELECT sum(received), sum(stored), sum(duplicates), sum(dead_letters), sum(same_ts)
         FROM ledger WHERE device_id IS NULL AND {within}"
    );
    let row = first_row(context, &query).await?;
    let [received, stored, duplicates, dead_letters, same_ts] =
        [0, 1, 2, 3, 4].map(|at| whole(row.get(at)));
    Ok(MessageStats { received, stored, duplicates, dead_letters, same_ts })
}

async fn sums(context: &SessionContext, within: &str) -> EngineResult<Sums> {
    let query = format!(
        "SELECT sum(samples), count(DISTINCT device_id),
           CAST(sum(energy_import_kwh_delta) AS DOUBLE),
           CAST(sum(energy_export_kwh_delta) AS DOUBLE) FROM rolled WHERE {within}"
    );
    let row = first_row(context, &query).await?;
    Ok(Sums {
        readings: whole(row.first()),
        devices: whole(row.get(1)),
        energy: EnergyStats { import_kwh: float(row.get(2)), export_kwh: float(row.get(3)) },
    })
}

async fn power_by_hour(context: &SessionContext, within: &str) -> EngineResult<Vec<HourStats>> {
    let query = format!(
        "SELECT hour, sum(kw), count(*) FROM (
           SELECT date_trunc('hour', ts) AS hour, device_id,
             sum(active_power_total_kw_avg * active_power_total_kw_count)
               / sum(active_power_total_kw_count) AS kw
           FROM rolled WHERE active_power_total_kw_count > 0 AND {within} GROUP BY 1, 2)
         GROUP BY hour ORDER BY hour"
    );
    let hour = |row: Vec<Value>| {
        let ts = row.first()?.as_str().and_then(parse_rfc3339).and_then(to_datetime)?;
        let (active_power_kw, devices) = (float(row.get(1)), whole(row.get(2)));
        Some(HourStats { ts, active_power_kw, devices })
    };
    Ok(rows(context, &query).await?.into_iter().filter_map(hour).collect())
}

async fn top_importers(context: &SessionContext, within: &str) -> EngineResult<Vec<(String, f64)>> {
    let query = format!(
        "SELECT device_id, CAST(sum(energy_import_kwh_delta) AS DOUBLE) AS kwh FROM rolled
         WHERE energy_import_kwh_delta IS NOT NULL AND {within}
         GROUP BY device_id ORDER BY kwh DESC, device_id LIMIT {TOP}"
    );
    let device = |row: Vec<Value>| Some((row.first()?.as_str()?.to_owned(), float(row.get(1))));
    Ok(rows(context, &query).await?.into_iter().filter_map(device).collect())
}

async fn rows(context: &SessionContext, query: &str) -> EngineResult<Vec<Vec<Value>>> {
    Ok(value_rows(&context.sql(query).await?.collect().await?))
}

async fn first_row(context: &SessionContext, query: &str) -> EngineResult<Vec<Value>> {
    Ok(rows(context, query).await?.into_iter().next().unwrap_or_default())
}

fn whole(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_i64).unwrap_or(0)
}

fn float(value: Option<&Value>) -> f64 {
    value.and_then(Value::as_f64).unwrap_or(0.0)
}

fn freshness(latest: &Latest, devices: Option<&[String]>, now: Micros) -> Freshness {
    let times: Vec<Micros> = match devices {
        Some(devices) => devices.iter().filter_map(|id| latest.ts(id)).collect(),
        None => latest.devices().iter().filter_map(|id| latest.ts(id)).collect(),
    };
    let since = |ago: Micros| {
        let recent = times.iter().filter(|ts| now - **ts <= ago).count();
        i64::try_from(recent).unwrap_or(i64::MAX)
    };
    Freshness {
        newest: times.iter().max().copied().and_then(to_datetime),
        devices: since(Micros::MAX),
        last_15m: since(QUARTER),
        last_hour: since(HOUR),
        last_day: since(DAY),
    }
}

fn storage(lake: &Lake) -> Result<Vec<TableStats>, ApiError> {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let table = |table: Table| {
        let snapshot = lake.snapshot(table)?;
        let days = || snapshot.data_files().map(|file| file.day);
        Ok(TableStats {
            table: table.name().to_owned(),
            files: count(snapshot.file_count()),
            rows: count(snapshot.data_files().filter_map(|file| file.rows).sum()),
            bytes: i64::try_from(snapshot.bytes()).unwrap_or(i64::MAX),
            oldest_day: days().min().map(day_text),
            newest_day: days().max().map(day_text),
        })
    };
    Table::ALL.into_iter().map(table).collect()
}

#[cfg(test)]
mod tests;
