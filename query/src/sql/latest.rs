//! The latest reading of a device: the row with the highest `ts`, found by that `ts`.

use std::time::Duration;

use acuvim_lakehouse::timestamp;
use acuvim_schemas::{
    Micros,
    api::LatestReading,
    problem::Code,
    reading::{LOAD_TYPE, READINGS},
    tables::Table,
};
use arrow::array::RecordBatch;
use datafusion::prelude::{col, lit};
use serde_json::{Map, Value};

use super::{render, run::from_engine};
use crate::{App, problem::ApiError};

/// The reading, before a time if one is given; none if the device has sent none.
pub(crate) async fn latest_reading(
    app: &App,
    device_id: &str,
    before: Option<Micros>,
) -> Result<Option<LatestReading>, ApiError> {
    // Dedup knows a reading a moment before the tail has it.
    for _ in 0..100 {
        match find(app, device_id, before).await? {
            Found::NotYet => tokio::time::sleep(Duration::from_millis(5)).await,
            Found::Reading(reading) => return Ok(Some(reading)),
            Found::Nothing => return Ok(None),
        }
    }
    Err(ApiError::new(Code::Unavailable, "the reading is not in the tail yet; try again"))
}

enum Found {
    Reading(LatestReading),
    NotYet,
    Nothing,
}

async fn find(app: &App, device_id: &str, before: Option<Micros>) -> Result<Found, ApiError> {
    let Some(newest) = app.lake().latest().ts(device_id) else { return Ok(Found::Nothing) };
    if let Some(before) = before.filter(|before| newest >= *before) {
        return newest_before(app, device_id, before).await;
    }
    let view = app.lake().view(true)?;
    let Some(telemetry) = view.table(Table::Telemetry) else {
        return Ok(Found::Nothing);
    };
    let ts = timestamp(newest);
    let read = async {
        let rows = app.parts.engine.session().read_table(telemetry)?;
        let filter = col("device_id").eq(lit(device_id)).and(col("ts").eq(ts));
        rows.filter(filter)?.collect().await
    };
    let rows = read.await.map_err(|e| from_engine(&e))?;
    let row = rows.iter().find(|r| r.num_rows() > 0);
    Ok(row.map_or(Found::NotYet, |row| Found::Reading(reading(row))))
}

/// The reading before a time, for a logger that was replaced and sends all the same.
async fn newest_before(app: &App, device_id: &str, before: Micros) -> Result<Found, ApiError> {
    let view = app.lake().view(true)?;
    let Some(telemetry) = view.table(Table::Telemetry) else { return Ok(Found::Nothing) };
    let before = timestamp(before);
    let read = async {
        let rows = app.parts.engine.session().read_table(telemetry)?;
        let rows = rows.filter(col("device_id").eq(lit(device_id)).and(col("ts").lt(before)))?;
        rows.sort(vec![col("ts").sort(false, false)])?.limit(0, Some(1))?.collect().await
    };
    let rows = read.await.map_err(|e| from_engine(&e))?;
    let row = rows.iter().find(|r| r.num_rows() > 0);
    Ok(row.map_or(Found::Nothing, |row| Found::Reading(reading(row))))
}

fn reading(row: &RecordBatch) -> LatestReading {
    let cell = |name: &str| {
        let column = row.column_by_name(name).map(render::values);
        column.and_then(|values| values.into_iter().next()).unwrap_or(Value::Null)
    };
    let text = |name: &str| cell(name).as_str().map(str::to_owned);
    let names = READINGS.iter().map(|r| r.name).chain([LOAD_TYPE]);
    let data: Map<String, Value> =
        names.map(|n| (n.to_owned(), cell(n))).filter(|(_, v)| !v.is_null()).collect();
    LatestReading {
        device_id: text("device_id").unwrap_or_default(),
        ts: text("ts").unwrap_or_default(),
        received_at: text("received_at").unwrap_or_default(),
        source: text("source"),
        connection: text("connection"),
        data,
    }
}
