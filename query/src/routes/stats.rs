//! The fleet over a time, from rollups, ledger and memory.

use std::sync::Arc;

use acuvim_lakehouse::QUARTER;
use acuvim_schemas::{
    Micros,
    api::{DashboardStats, EnergyStats, Freshness, HourStats, MessageStats, TableStats, TopDevice},
    problem::Problem,
    tables::Table,
    time::{DAY, HOUR, day_text, parse_rfc3339, to_datetime, to_rfc3339},
};
use axum::{Json, extract::State};
use chrono::Utc;
use datafusion::prelude::SessionContext;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    App,
    auth::Caller,
    problem::{ApiError, Params},
    routes::moment,
    sql::{name_rows, on_threads, value_rows},
};

/// The longest time.
const LONGEST: Micros = 400 * DAY;

/// Devices that imported most.
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
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<StatsParams>,
) -> Result<Json<DashboardStats>, ApiError> {
    let now = Utc::now().timestamp_micros();
    let at = |field: &str, text: Option<&String>, unless: Micros| match text {
        Some(text) => moment(field, text).map(|at| at.timestamp_micros()),
        None => Ok(unless),
    };
    let to = at("to", params.to.as_ref(), now)?;
    let from = at("from", params.from.as_ref(), to - DAY)?;
    let from = from - from.rem_euclid(QUARTER);
    if from >= to {
        return Err(ApiError::field("to", "later than from"));
    }
    if to - from > LONGEST {
        return Err(ApiError::field("to", "at most 400 days behind from"));
    }
    let devices = match caller.scope() {
        Some(scope) => Some(app.control().scoped_device_ids(scope).await?),
        None => None,
    };
    let complete = app.lake().rollups_are_built().await?;
    let everything = devices.is_none();
    let of = Arc::clone(&app);
    let (_, _, (found, freshness, storage)) = on_threads(&app, move |context| async move {
        let freshness = freshness(&of, devices.as_deref(), now);
        name_rows(&context, Table::Rollup15m, "rolled", devices.as_deref()).await?;
        let found = Found::ask(&context, from, to, everything).await?;
        Ok((found, freshness, everything.then(|| storage(&of)).transpose()))
    })
    .await?;
    let mut top_devices = Vec::with_capacity(found.top.len());
    for (device_id, energy_import_kwh) in found.top {
        let known = app.control().device(&device_id, None).await?;
        let name = known.and_then(|device| device.name);
        top_devices.push(TopDevice { device_id, name, energy_import_kwh });
    }
    Ok(Json(DashboardStats {
        from: to_datetime(from).unwrap_or_default(),
        to: to_datetime(to).unwrap_or_default(),
        messages: found.messages,
        readings: found.readings,
        devices: found.devices,
        energy: found.energy,
        power_by_hour: found.hours,
        top_devices,
        freshness,
        storage: storage?,
        complete,
    }))
}

/// What the tables say.
struct Found {
    messages: Option<MessageStats>,
    readings: i64,
    devices: i64,
    energy: EnergyStats,
    hours: Vec<HourStats>,
    top: Vec<(String, f64)>,
}

impl Found {
    async fn ask(
        context: &SessionContext,
        from: Micros,
        to: Micros,
        everything: bool,
    ) -> datafusion::error::Result<Self> {
        let within = |column: &str| {
            let (from, to) = (to_rfc3339(from), to_rfc3339(to));
            format!("{column} >= TIMESTAMP '{from}' AND {column} < TIMESTAMP '{to}'")
        };
        let messages = match everything {
            true => {
                let sql = format!(
                    "SELECT sum(received), sum(stored), sum(duplicates), sum(dead_letters),
                     sum(same_ts)
                     FROM ledger WHERE device_id IS NULL AND {}",
                    within("minute")
                );
                let row = rows(context, &sql).await?.into_iter().next().unwrap_or_default();
                let [received, stored, duplicates, dead_letters, same_ts] =
                    [0, 1, 2, 3, 4].map(|at| whole(row.get(at)));
                Some(MessageStats { received, stored, duplicates, dead_letters, same_ts })
            }
            false => None,
        };
        let within = within("ts");
        let sql = format!(
            "SELECT sum(samples), count(DISTINCT device_id),
               CAST(sum(energy_import_kwh_delta) AS DOUBLE),
               CAST(sum(energy_export_kwh_delta) AS DOUBLE) FROM rolled WHERE {within}"
        );
        let sums = rows(context, &sql).await?.into_iter().next().unwrap_or_default();
        let sql = format!(
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
        let hours = rows(context, &sql).await?.into_iter().filter_map(hour).collect();
        let sql = format!(
            "SELECT device_id, CAST(sum(energy_import_kwh_delta) AS DOUBLE) AS kwh FROM rolled
             WHERE energy_import_kwh_delta IS NOT NULL AND {within}
             GROUP BY device_id ORDER BY kwh DESC, device_id LIMIT {TOP}"
        );
        let device = |row: Vec<Value>| Some((row.first()?.as_str()?.to_owned(), float(row.get(1))));
        let top = rows(context, &sql).await?.into_iter().filter_map(device).collect();
        Ok(Self {
            messages,
            readings: whole(sums.first()),
            devices: whole(sums.get(1)),
            energy: EnergyStats { import_kwh: float(sums.get(2)), export_kwh: float(sums.get(3)) },
            hours,
            top,
        })
    }
}

async fn rows(context: &SessionContext, sql: &str) -> datafusion::error::Result<Vec<Vec<Value>>> {
    Ok(value_rows(&context.sql(sql).await?.collect().await?))
}

fn whole(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_i64).unwrap_or(0)
}

fn float(value: Option<&Value>) -> f64 {
    value.and_then(Value::as_f64).unwrap_or(0.0)
}

fn freshness(app: &App, devices: Option<&[String]>, now: Micros) -> Freshness {
    let latest = app.lake().latest();
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

fn storage(app: &App) -> Result<Vec<TableStats>, ApiError> {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let table = |table: Table| {
        let snapshot = app.lake().snapshot(table)?;
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
