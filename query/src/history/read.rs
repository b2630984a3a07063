//! Reads what a history is made of, from lake and tail, and makes its page.

use std::sync::Arc;

use acuvim_lakehouse::{NotRolledUp, View, timestamp};
use acuvim_schemas::{Micros, api::Device, problem::Code, tables::Table};
use arrow::array::{Array as _, ArrayRef, AsArray as _, Decimal128Array, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, TimestampMicrosecondType};
use axum::body::Body;
use chrono::Utc;
use datafusion::{
    error::Result as EngineResult,
    logical_expr::Expr,
    prelude::{DataFrame, SessionContext, col, lit},
};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::{
    ask::{Asked, Cursor, Order, Shape},
    fill::Fill,
    fold::{Aggregate, Fold, Meter},
    page::Answer,
    rolled::Source,
};
use crate::{
    App,
    export::Lines,
    problem::ApiError,
    sql::{Found, Pieces, as_answer, object_with, pieces_of, session_over, turn},
};

/// Loggers that replaced each other, at most.
const LOGGERS: usize = 32;

/// The loggers that stood at a site one after another, each with the times from and up to which it
/// did.
#[derive(Debug, Clone)]
pub(crate) struct Site(pub(super) Vec<(String, std::ops::Range<Micros>)>);

/// A device with those that it replaced.
pub(crate) async fn site_of(app: &App, device: Device) -> Result<Site, ApiError> {
    let mut loggers = Vec::new();
    let mut next = Some(device);
    while let Some(device) = next.filter(|_| loggers.len() < LOGGERS) {
        next = match &device.replaces {
            Some(before) => app.control().device(before, None).await?,
            None => None,
        };
        let replaced = |d: &Device| d.replaced_at.map(|at| at.timestamp_micros());
        let from = next.as_ref().and_then(replaced).unwrap_or(Micros::MIN);
        let to = replaced(&device).unwrap_or(Micros::MAX);
        loggers.push((device.device_id, from..to));
    }
    Ok(Site(loggers))
}

/// A site's rows of a table from one time up to another, by time: `ts` and these columns.
pub(crate) async fn site_rows(
    context: &SessionContext,
    table: Table,
    site: &Site,
    (from, to): (Micros, Micros),
    columns: &[&str],
    order: Order,
) -> EngineResult<DataFrame> {
    let wanted = || {
        let ts = std::iter::once(col("ts"));
        ts.chain(columns.iter().map(|name| col(*name))).collect::<Vec<Expr>>()
    };
    let mut all: Option<DataFrame> = None;
    for (device_id, there) in &site.0 {
        let (from, end) = (from.max(there.start), to.min(there.end));
        let rows = context
            .table(table.name())
            .await?
            .filter(col("device_id").eq(lit(device_id.as_str())))?
            .filter(col("ts").gt_eq(timestamp(from)).and(col("ts").lt(timestamp(end))))?
            .select(wanted())?;
        all = Some(match all {
            Some(others) => others.union(rows)?,
            None => rows,
        });
    }
    let all = all.ok_or_else(|| {
        datafusion::error::DataFusionError::Internal("a site without loggers".to_owned())
    })?;
    all.sort(vec![col("ts").sort(order == Order::Ascending, false)])
}

/// A page of a site's history: the object of what is said before its rows, its rows, and what is known
/// with them.
pub(crate) async fn history(
    app: &Arc<App>,
    site: Site,
    asked: Asked,
    before: Value,
) -> Result<Body, ApiError> {
    if let Some(reason) = app.status().not_hot {
        return Err(ApiError::new(Code::Unavailable, reason));
    }
    let now = Utc::now().timestamp_micros();
    let timeout = app.parts.sql.timeout;
    let ((), body) = as_answer(app, timeout, move |app| async move {
        let permit = turn(&app.queries).await?;
        // Before the view: rollups that say more by then are only the better.
        let not_rolled_up = match (&asked.shape, site.0.as_slice()) {
            (Shape::Buckets { .. }, [(device_id, _)]) => {
                app.lake().not_rolled_up(device_id).await?
            }
            _ => None,
        };
        if asked.counts() {
            app.lake().learn_meter_changes(now).await;
        }
        // The newest logger's: the meter behind it stays.
        let newest = site.0.first().map_or("", |(device_id, _)| device_id);
        let engine = &app.parts.engine;
        let meter = Meter {
            terms: engine.meters().terms_of(newest),
            changes: engine.meter_changes(newest),
        };
        let view = app.lake().view(true)?;
        let context = session_over(&app, &view)?;
        let page = match asked.shape.clone() {
            Shape::Raw => raw(&context, &site, &asked).await,
            Shape::Buckets { buckets, aggregates, fill, .. } => {
                let page =
                    Buckets { site, asked, buckets, aggregates, fill, now, meter, not_rolled_up };
                page.read(&context).await
            }
        };
        let pieces = page.map(|page| written(&before, page, view));
        Ok(pieces.map(|pieces| Found { facts: (), pieces, permit, memory: None }))
    })
    .await?;
    Ok(body)
}

/// A [`History`](acuvim_schemas::api::History).
fn written(before: &Value, (rows, next): Page, view: View) -> Pieces {
    object_with(before, "rows", rows.into_pieces(), move || {
        json!({
            "next_cursor": next.map(|cursor| cursor.to_string()),
            "lake_version": view.version,
            "watermark": view.watermark,
        })
    })
}

/// The rows of a page, and where the next one begins.
pub(super) type Page = (PageRows, Option<Cursor>);

/// Rows as they were read, or as they were made.
#[derive(Debug)]
pub(super) enum PageRows {
    Read(Vec<RecordBatch>),
    Made(Vec<Vec<Value>>),
}

impl PageRows {
    fn into_pieces(self) -> Pieces {
        match self {
            Self::Read(batches) => {
                let lines = Lines::arrays();
                Box::new(pieces_of(batches, move |rows, out| lines.of(rows, out)))
            }
            Self::Made(rows) => Box::new(rows.into_iter().map(|row| {
                let mut text = Vec::new();
                // Writing to memory does not fail.
                drop(serde_json::to_writer(&mut text, &row));
                text
            })),
        }
    }
}

async fn raw(context: &SessionContext, site: &Site, asked: &Asked) -> EngineResult<Page> {
    let (mut from, mut to) = (asked.from, asked.to);
    let mut skip = 0;
    if let Some(cursor) = asked.cursor {
        skip = usize::try_from(cursor.beside).unwrap_or(0);
        match asked.order {
            Order::Ascending => from = from.max(cursor.at),
            Order::Descending => to = to.min(cursor.at.saturating_add(1)),
        }
    }
    let names: Vec<&str> = asked.fields.iter().map(|r| r.name).collect();
    let rows = site_rows(context, Table::Telemetry, site, (from, to), &names, asked.order).await?;
    let batches = rows.limit(skip, Some(asked.limit + 1))?.collect().await?;
    let times: Vec<Micros> = batches.iter().flat_map(|batch| times(batch).to_vec()).collect();
    let more = times.len() > asked.limit;
    let cursor = times.get(asked.limit.wrapping_sub(1)).filter(|_| more).map(|last| {
        let same = times.iter().take(asked.limit).rev().take_while(|ts| *ts == last).count();
        let before = if asked.cursor.is_some_and(|c| c.at == *last) { skip } else { 0 };
        Cursor { at: *last, beside: i64::try_from(same + before).unwrap_or(i64::MAX) }
    });
    Ok((PageRows::Read(first_rows(batches, asked.limit)), cursor))
}

/// The first rows, so many.
fn first_rows(batches: Vec<RecordBatch>, mut left: usize) -> Vec<RecordBatch> {
    let first = |batch: RecordBatch| {
        let kept = batch.num_rows().min(left);
        left -= kept;
        batch.slice(0, kept)
    };
    batches.into_iter().map(first).collect()
}

/// A page of buckets.
pub(super) struct Buckets {
    pub site: Site,
    pub asked: Asked,
    pub buckets: acuvim_lakehouse::Buckets,
    pub aggregates: Vec<Aggregate>,
    pub fill: Fill,
    now: Micros,
    /// What is known of its meter, of all time.
    meter: Meter,
    /// Which readings are in no rollup; unknown where rollups are of no use.
    pub not_rolled_up: Option<NotRolledUp>,
}

impl Buckets {
    async fn read(&self, context: &SessionContext) -> EngineResult<Page> {
        let (from, to) = self.range();
        let names: Vec<&str> = self.asked.fields.iter().map(|r| r.name).collect();
        let counts = self.aggregates.contains(&Aggregate::Delta);
        let mut meter = self.meter.clone();
        if counts {
            meter.changes.extend(self.changes(context, from, to).await?);
            meter.changes.sort_unstable();
            meter.changes.dedup();
        }
        let mut fold = Fold::new(self.buckets, self.asked.folded(), self.aggregates.clone(), meter);
        let mut page = Answer::new(self, from);
        for (part, of) in self.parts(context, from, to).await? {
            let is_full = match of {
                Source::Readings => {
                    if counts {
                        self.look_back(context, part.0, &names, &mut fold).await?;
                    }
                    self.fold_readings(context, part, &mut fold, &mut page).await?
                }
                Source::Rollup => {
                    self.look_ahead(context, part.0, &names, &mut fold).await?;
                    self.fold_rollup(context, part, &mut fold, &mut page).await?
                }
            };
            if is_full {
                return Ok(page.finish());
            }
        }
        if counts {
            self.look_ahead(context, to, &names, &mut fold).await?;
        }
        fold.finish().into_iter().for_each(|row| page.take(row));
        page.end(to.min(self.now.max(from)));
        Ok(page.finish())
    }

    /// Folds the readings of a time; true once the page is full.
    async fn fold_readings(
        &self,
        context: &SessionContext,
        range: (Micros, Micros),
        fold: &mut Fold,
        page: &mut Answer<'_>,
    ) -> EngineResult<bool> {
        let names: Vec<&str> = self.asked.fields.iter().map(|r| r.name).collect();
        let rows =
            site_rows(context, Table::Telemetry, &self.site, range, &names, Order::Ascending);
        let mut rows = rows.await?.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            let columns: Vec<Floats<'_>> = batch.columns().iter().skip(1).map(Floats::of).collect();
            for (row, ts) in times(&batch).iter().enumerate() {
                fold.push(*ts, columns.iter().map(|c| c.get(row)));
                while let Some(done) = fold.pop() {
                    page.take(done);
                }
            }
            if page.is_full() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What has to be read for this page.
    fn range(&self) -> (Micros, Micros) {
        let Asked { from, to, .. } = self.asked;
        match (self.asked.cursor, self.asked.order) {
            (None, _) => (from, to),
            (Some(cursor), Order::Ascending) => (from.max(cursor.beside), to),
            // What lies on a line needs the readings behind it.
            (Some(_), Order::Descending) if self.fill == Fill::Linear => (from, to),
            (Some(cursor), Order::Descending) => (from, to.min(cursor.at)),
        }
    }
}

impl Buckets {
    /// The aggregate of each cell of a row.
    pub fn cells(&self) -> Vec<Aggregate> {
        self.asked.fields.iter().flat_map(|_| self.aggregates.iter().copied()).collect()
    }
}

pub(super) fn times(batch: &RecordBatch) -> &[Micros] {
    batch.column(0).as_primitive::<TimestampMicrosecondType>().values()
}

/// A column of decimals as the floats nearest to them.
pub(super) struct Floats<'a> {
    values: Option<&'a Decimal128Array>,
    factor: f64,
}

impl<'a> Floats<'a> {
    pub fn of(column: &'a ArrayRef) -> Self {
        let scale = match column.data_type() {
            DataType::Decimal128(_, scale) => i32::from(*scale),
            _ => 0,
        };
        let values = column.as_primitive_opt::<Decimal128Type>();
        Self { values, factor: 10_f64.powi(scale) }
    }

    pub fn get(&self, row: usize) -> Option<f64> {
        let values = self.values.filter(|values| values.is_valid(row))?;
        #[expect(clippy::cast_precision_loss, reason = "readings have at most 15 digits")]
        let value = values.value(row) as f64;
        Some(value / self.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_schemas::api::History;
    use arrow::array::TimestampMicrosecondArray;

    fn before() -> Value {
        let columns = json!([{"name": "voltage_l1_v", "unit": "V"}]);
        json!({"device_id": "d", "interval": null, "tz": "UTC", "columns": columns})
    }

    fn read(page: Page) -> History {
        let view = View { version: 7, watermark: vec![3, 4], tables: Vec::new() };
        let text: Vec<u8> = written(&before(), page, view).flatten().collect();
        serde_json::from_slice(&text).expect("a history")
    }

    #[test]
    fn what_is_written_is_a_history() {
        let times = TimestampMicrosecondArray::from(vec![0, 1_000_001, 2]).with_timezone("UTC");
        let volts = Decimal128Array::from(vec![Some(2300), None, Some(1)]);
        let volts = volts.with_precision_and_scale(6, 1).expect("fits");
        let rows = RecordBatch::try_from_iter([
            ("ts", Arc::new(times) as ArrayRef),
            ("voltage_l1_v", Arc::new(volts) as ArrayRef),
        ]);
        let batches = first_rows(vec![rows.expect("rows")], 2);
        let history = read((PageRows::Read(batches), Some(Cursor { at: 5, beside: 1 })));
        let wanted =
            json!([["1970-01-01T00:00:00.000Z", 230.0], ["1970-01-01T00:00:01.000001Z", null]]);
        assert_eq!(json!(history.rows), wanted);
        assert_eq!(history.next_cursor.as_deref(), Some("5_1"));
        assert_eq!((history.lake_version, history.watermark), (7, vec![3, 4]));
        let made = vec![vec![json!("a"), json!(1)], vec![json!("b"), Value::Null]];
        assert_eq!(read((PageRows::Made(made.clone()), None)).rows, made);
        assert_eq!(read((PageRows::Made(Vec::new()), None)).rows, Vec::<Vec<Value>>::new());
    }
}
