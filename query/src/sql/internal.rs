//! Questions of our own to the lake: a device's readings, and fixed statements.

use std::sync::Arc;

use acuvim_lakehouse::{OfDevices, View, timestamp};
use acuvim_schemas::{Micros, problem::Code, tables::Table};
use arrow::array::RecordBatch;
use datafusion::prelude::{SessionContext, col, lit};
use serde_json::{Map, Value};
use tokio_util::task::AbortOnDropHandle;

use super::{
    answer::turn,
    render,
    run::{explain, from_engine},
};
use crate::{App, problem::ApiError};

/// A device's readings between two times, as JSON.
pub(crate) struct Readings {
    pub readings: Vec<Map<String, Value>>,
    /// Whether there are more.
    pub truncated: bool,
    pub lake_version: i64,
    pub watermark: Vec<i64>,
}

/// A device's readings from one time to another, both inclusive, by time, at most so many.
pub(crate) async fn readings_between(
    app: &Arc<App>,
    device_id: &str,
    from: Micros,
    to: Micros,
    limit: usize,
) -> Result<Readings, ApiError> {
    let theirs = col("device_id")
        .eq(lit(device_id))
        .and(col("ts").gt_eq(timestamp(from)))
        .and(col("ts").lt_eq(timestamp(to)));
    let (version, watermark, mut readings) = on_threads(app, move |context| async move {
        let rows = context.table(Table::Telemetry.name()).await?.filter(theirs)?;
        let rows = rows.sort(vec![col("ts").sort(true, false)])?.limit(0, Some(limit + 1))?;
        Ok(rows.collect().await?.iter().flat_map(objects).collect::<Vec<_>>())
    })
    .await?;
    let truncated = readings.len() > limit;
    readings.truncate(limit);
    Ok(Readings { readings, truncated, lake_version: version, watermark })
}

/// Runs a question of ours as any other query: on the threads for them, and one of so many at a time.
pub(crate) async fn on_threads<T, F>(
    app: &Arc<App>,
    ask: impl FnOnce(SessionContext) -> F + Send + 'static,
) -> Result<(i64, Vec<i64>, T), ApiError>
where
    T: Send + 'static,
    F: Future<Output = datafusion::error::Result<T>> + Send + 'static,
{
    if let Some(reason) = app.status().not_hot {
        return Err(ApiError::new(Code::Unavailable, reason));
    }
    let asked = as_query(app, move |app| async move {
        let view = app.lake().view(true)?;
        let found = ask(session_over(&app, &view)?).await;
        Ok(found.map(|rows| (view.version, view.watermark, rows)))
    });
    match asked.await? {
        Ok(found) => Ok(found),
        // Looked into without the permit: it may take a while.
        Err(error) => Err(explain(app, &error).await),
    }
}

/// Runs what reads the lake as a query: on the threads for them, one of so many at a time, and under
/// their deadline. The server's own threads have messages to take.
pub(crate) async fn as_query<T, F>(
    app: &Arc<App>,
    work: impl FnOnce(Arc<App>) -> F + Send + 'static,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ApiError>> + Send + 'static,
{
    let (threads, timeout) = (app.threads.handle(), app.parts.sql.timeout);
    let app = Arc::clone(app);
    let work = AbortOnDropHandle::new(threads.spawn(async move {
        let _permit = turn(&app.queries).await?;
        work(Arc::clone(&app)).await
    }));
    let done = tokio::time::timeout(timeout, work).await.map_err(|_| {
        let detail = format!("the question took longer than {} ms", timeout.as_millis());
        ApiError::new(Code::DeadlineExceeded, detail)
    })?;
    done.map_err(|e| ApiError::internal(&e))?
}

/// A session that knows the tables of a view.
pub(crate) fn session_over(app: &App, view: &View) -> Result<SessionContext, ApiError> {
    let context = app.parts.engine.session();
    for table in Table::ALL {
        if let Some(provider) = view.table(table) {
            context.register_table(table.name(), provider).map_err(|e| from_engine(&e))?;
        }
    }
    Ok(context)
}

/// Rows as objects, without what is null.
fn objects(batch: &RecordBatch) -> Vec<Map<String, Value>> {
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let mut columns: Vec<_> =
        batch.columns().iter().map(|column| render::values(column).into_iter()).collect();
    let mut row = || -> Map<String, Value> {
        let cells = columns.iter_mut().filter_map(Iterator::next);
        let cells = names.iter().zip(cells).filter(|(name, v)| !v.is_null() && **name != "date");
        cells.map(|(name, value)| ((*name).to_owned(), value)).collect()
    };
    (0..batch.num_rows()).map(|_| row()).collect()
}

/// The rows of a statement of ours over the lake's tables.
pub(crate) async fn internal_rows(
    app: &Arc<App>,
    statement: String,
) -> Result<Vec<Vec<Value>>, ApiError> {
    let (_, _, rows) = on_threads(app, move |context| async move {
        Ok(value_rows(&context.sql(&statement).await?.collect().await?))
    })
    .await?;
    Ok(rows)
}

/// Rows as their values.
pub(crate) fn value_rows(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for batch in batches {
        let mut columns: Vec<_> =
            batch.columns().iter().map(|column| render::values(column).into_iter()).collect();
        for _ in 0..batch.num_rows() {
            rows.push(columns.iter_mut().filter_map(Iterator::next).collect());
        }
    }
    rows
}

/// Makes a table's rows known under another name; only those of some devices, if that is said.
pub(crate) async fn name_rows(
    context: &SessionContext,
    table: Table,
    name: &str,
    devices: Option<&[String]>,
) -> datafusion::error::Result<()> {
    let mut rows = context.table_provider(table.name()).await?;
    if let Some(devices) = devices {
        rows = Arc::new(OfDevices::new(rows, devices));
    }
    context.register_table(name, rows).map(|_| ())
}
