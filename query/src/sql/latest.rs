//! The latest reading of a device: the row with the highest `ts`, from memory; behind a replacement the
//! one before it, from the lake.

use std::sync::Arc;

use acuvim_lakehouse::timestamp;
use acuvim_schemas::{
    Micros,
    api::LatestReading,
    reading::{LOAD_TYPE, READINGS},
    tables::Table,
};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use datafusion::prelude::{SessionContext, col, lit};
use serde_json::{Map, Value};

use super::{internal::on_threads, render};
use crate::{App, problem::ApiError};

/// The reading, before a time if one is given; none if the device has sent none.
pub(crate) async fn latest_reading(
    app: &Arc<App>,
    device_id: &str,
    before: Option<Micros>,
) -> Result<Option<LatestReading>, ApiError> {
    let row = app.lake().latest().rows([device_id])?;
    let Some(newest) = time_of(&row) else { return Ok(None) };
    match before.filter(|before| newest >= *before) {
        Some(before) => newest_before(app, device_id, before).await,
        None => Ok(Some(reading(&row))),
    }
}

fn time_of(row: &RecordBatch) -> Option<Micros> {
    let times = row.column_by_name("ts")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    times.values().first().copied()
}

/// The reading before a time, for a logger that was replaced and sends all the same. It is a query like
/// any other: on the threads for them, one of so many at a time, and under their deadline.
async fn newest_before(
    app: &Arc<App>,
    device_id: &str,
    before: Micros,
) -> Result<Option<LatestReading>, ApiError> {
    let theirs = col("device_id").eq(lit(device_id)).and(col("ts").lt(timestamp(before)));
    let ask = move |context: SessionContext| async move {
        let rows = context.table(Table::Telemetry.name()).await?.filter(theirs)?;
        rows.sort(vec![col("ts").sort(false, false)])?.limit(0, Some(1))?.collect().await
    };
    let (_, _, rows) = on_threads(app, ask).await?;
    Ok(rows.iter().find(|rows| rows.num_rows() > 0).map(reading))
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
