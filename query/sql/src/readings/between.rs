//! A device's readings between two times, and fixed statements over the lake's tables.

use std::ops::RangeInclusive;

use acuvim_lakehouse::timestamp;
use acuvim_tables::Table;
use acuvim_wire::Micros;
use datafusion::prelude::{col, lit};
use serde_json::{Map, Value};

use crate::{
    encode::{row_objects, value_rows},
    engine::{Sql, ViewState},
    error::QueryError,
};

/// A device's readings between two times, with all of their columns.
#[derive(Debug)]
pub struct StoredReadings {
    /// The readings, by time.
    pub readings: Vec<Map<String, Value>>,
    /// Whether there are more.
    pub truncated: bool,
    /// The state of the lake that they were read from.
    pub view: ViewState,
}

/// A device's readings in a range of times, at most `limit`.
///
/// # Errors
/// When lake or tail can't be read.
pub async fn readings_between(
    sql: &Sql,
    device_id: &str,
    range: RangeInclusive<Micros>,
    limit: usize,
) -> Result<StoredReadings, QueryError> {
    let theirs = col("device_id")
        .eq(lit(device_id))
        .and(col("ts").gt_eq(timestamp(*range.start())))
        .and(col("ts").lt_eq(timestamp(*range.end())));
    let work = sql.run_over_view(move |context| async move {
        let rows = context.table(Table::Telemetry.name()).await?.filter(theirs)?;
        // One more than is answered shows that there are more.
        let rows = rows.sort(vec![col("ts").sort(true, false)])?.limit(0, Some(limit + 1))?;
        Ok(rows.collect().await?.iter().flat_map(row_objects).collect::<Vec<_>>())
    });
    let (view, mut readings) = work.await?;
    let truncated = readings.len() > limit;
    readings.truncate(limit);
    Ok(StoredReadings { readings, truncated, view })
}

/// The rows of an internal statement over the lake's tables. It does not pass the gate, so that its text may
/// contain nothing of a request but checked ids and numbers.
///
/// # Errors
/// When lake or tail can't be read.
pub async fn rows_of(sql: &Sql, statement: String) -> Result<Vec<Vec<Value>>, QueryError> {
    let work = sql.run_over_view(move |context| async move {
        Ok(value_rows(&context.sql(&statement).await?.collect().await?))
    });
    Ok(work.await?.1)
}
