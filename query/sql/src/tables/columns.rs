//! Rows of control as Arrow columns and tables of the engine.

use std::sync::Arc;

use acuvim_model::problem::Code;
use acuvim_tables::timestamp;
use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, SchemaRef},
};
use chrono::{DateTime, Utc};
use datafusion::{catalog::TableProvider, datasource::MemTable};

use crate::error::QueryError;

/// A column of texts, any of which may be missing.
pub(super) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

/// A column of texts of which none is missing.
pub(super) fn key(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

/// A column of times, any of which may be missing.
pub(super) fn time(name: &str) -> Field {
    Field::new(name, timestamp(), true)
}

/// A column of whole numbers of which none is missing.
pub(super) fn count(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

/// A column of truth values of which none is missing.
pub(super) fn flag(name: &str) -> Field {
    Field::new(name, DataType::Boolean, false)
}

pub(super) fn texts<'a, T, S: AsRef<str>>(
    items: &'a [T],
    get: impl Fn(&'a T) -> Option<S>,
) -> ArrayRef {
    Arc::new(items.iter().map(get).collect::<StringArray>())
}

pub(super) fn times<T>(items: &[T], get: impl Fn(&T) -> Option<DateTime<Utc>>) -> ArrayRef {
    let micros = items.iter().map(|item| get(item).map(|at| at.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

pub(super) fn numbers<T>(items: &[T], get: impl Fn(&T) -> Option<i64>) -> ArrayRef {
    Arc::new(items.iter().map(get).collect::<Int64Array>())
}

pub(super) fn reals<T>(items: &[T], get: impl Fn(&T) -> Option<f64>) -> ArrayRef {
    Arc::new(items.iter().map(get).collect::<Float64Array>())
}

pub(super) fn flags<T>(items: &[T], get: impl Fn(&T) -> bool) -> ArrayRef {
    Arc::new(items.iter().map(|item| Some(get(item))).collect::<BooleanArray>())
}

/// A table of these columns.
pub(super) fn table(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    let rows = RecordBatch::try_new(Arc::clone(schema), columns);
    let rows = rows.map_err(|e| QueryError::internal(&e))?;
    // A copy: the database is not read again however often the plan scans the table.
    let table = MemTable::try_new(Arc::clone(schema), vec![vec![rows]]);
    Ok(Arc::new(table.map_err(|e| QueryError::internal(&e))?))
}

/// Refuses to read a table that has more rows than a query may read.
pub(super) fn check_total(what: &str, total: i64, limit: i64) -> Result<(), QueryError> {
    if total <= limit {
        return Ok(());
    }
    let detail = format!("{total} {what} are more than a query may read ({limit})");
    Err(QueryError::new(Code::Refused, detail))
}
