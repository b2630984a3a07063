//! The latest reading of a device or of every device: the row with the highest `ts`, whenever it arrived.
//! It is in memory; only the last reading before a replacement is read from the lake.

use std::sync::Arc;

use acuvim_lakehouse::{Latest, timestamp};
use acuvim_tables::Table;
use acuvim_wire::Micros;
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use datafusion::prelude::{SessionContext, col, lit};
use serde_json::json;

use crate::{
    answer::{Answer, AnswerBody, object_with, pieces_of},
    encode::{ReadingRows, reading_names},
    engine::{Lane, Sql},
    error::QueryError,
};

/// A device's latest reading as JSON, before a time if one is given; none if the device has sent none.
///
/// # Errors
/// When the lake can't be read.
pub async fn latest_of_device(
    sql: &Sql,
    device_id: &str,
    before: Option<Micros>,
) -> Result<Option<Vec<u8>>, QueryError> {
    let row = sql.lake().latest().rows([device_id])?;
    let Some(newest) = time_of(&row) else { return Ok(None) };
    match before.filter(|before| newest >= *before) {
        Some(before) => newest_before(sql, device_id, before).await,
        None => Ok(Some(reading(&row))),
    }
}

fn time_of(row: &RecordBatch) -> Option<Micros> {
    let times = row.column_by_name("ts")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    times.values().first().copied()
}

/// The last reading before a time: of a logger that was replaced then and has sent more since.
async fn newest_before(
    sql: &Sql,
    device_id: &str,
    before: Micros,
) -> Result<Option<Vec<u8>>, QueryError> {
    let theirs = col("device_id").eq(lit(device_id)).and(col("ts").lt(timestamp(before)));
    let work = move |context: SessionContext| async move {
        let rows = context.table(Table::Telemetry.name()).await?.filter(theirs)?;
        rows.sort(vec![col("ts").sort(false, false)])?.limit(0, Some(1))?.collect().await
    };
    let (_, rows) = sql.run_over_view(work).await?;
    Ok(rows.iter().find(|rows| rows.num_rows() > 0).map(reading))
}

fn reading(row: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    ReadingRows::new(row, reading_names()).write(0, &mut out);
    out
}

/// A request for a page of the fleet's latest readings.
#[derive(Debug, Clone)]
pub struct LatestQuery {
    /// Of these devices; none: of all.
    pub among: Option<Vec<String>>,
    /// The members of `data` to answer.
    pub names: Vec<&'static str>,
    /// The last device of the page before.
    pub cursor: Option<String>,
    /// Devices of a page.
    pub limit: usize,
}

/// A page of the fleet's latest readings, by device. Devices that have sent none are left out.
///
/// # Errors
/// When the tail is not up to date.
pub async fn latest_of_fleet(sql: &Sql, query: LatestQuery) -> Result<AnswerBody, QueryError> {
    sql.require_tail()?;
    let work = move |sql: Sql| async move {
        // A dashboard asks for this all the time, and must not wait for queries of half a minute.
        let permit = sql.permit(Lane::Memory).await?;
        let LatestQuery { among, names, cursor, limit } = query;
        let latest = sql.lake().latest();
        let page = FleetPage::of(latest, among, cursor.as_deref(), limit);
        let rows = latest.rows(page.ids.iter().map(AsRef::as_ref))?;
        let items = pieces_of(vec![rows], move |rows, out| {
            ReadingRows::new(rows, names.iter().copied()).write_all(out);
        });
        let after = json!({ "total": page.total, "next_cursor": page.next_cursor });
        let pieces = object_with(&json!({}), "items", items, move || after);
        Ok(Ok(Answer { facts: (), pieces, permit, memory: None }))
    };
    let ((), body) = sql.answer(sql.limits().timeout, work).await?;
    Ok(body)
}

/// The devices of a page.
struct FleetPage {
    ids: Vec<Arc<str>>,
    /// Devices on all pages.
    total: usize,
    next_cursor: Option<Arc<str>>,
}

impl FleetPage {
    fn of(latest: &Latest, among: Option<Vec<String>>, cursor: Option<&str>, limit: usize) -> Self {
        let mut ids: Vec<Arc<str>> = match among {
            None => latest.devices(),
            Some(ids) => ids.into_iter().filter(|id| latest.has(id)).map(Arc::from).collect(),
        };
        ids.sort_unstable();
        let total = ids.len();
        if let Some(cursor) = cursor {
            // By order and not by place: devices may have come and gone since the page before.
            ids.drain(..ids.partition_point(|id| id.as_ref() <= cursor));
        }
        let more = ids.len() > limit;
        ids.truncate(limit);
        let next_cursor = ids.last().filter(|_| more).cloned();
        Self { ids, total, next_cursor }
    }
}
