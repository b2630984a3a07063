//! Compares two readings with the same device and time: a repetition has nothing that the stored one has not.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use serde_json::{Map, Value};

use super::item::is_not_a_value;
use crate::table::DATE;

/// Columns without measured values, in which a repetition may differ.
const METADATA: [&str; 12] = [
    "device_id",
    "ts",
    "received_at",
    "source",
    "connection",
    "seq",
    "boot",
    "epoch",
    "partition",
    "offset",
    "item",
    DATE,
];

const EXTRA: &str = "extra";

/// The key in `extra` that tells the uptime of the device, in which a repetition may differ.
const UPTIME: &str = "uptime_ms";

/// The most fields that are named in the detail of a dead letter.
const MAX_NAMED: usize = 10;

/// One row of a batch.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    /// The batch.
    pub rows: &'a RecordBatch,
    /// The index of the row.
    pub row: usize,
}

impl<'a> From<(&'a RecordBatch, usize)> for RowRef<'a> {
    fn from((rows, row): (&'a RecordBatch, usize)) -> Self {
        Self { rows, row }
    }
}

/// The fields of a reading, a row of `telemetry`, that the stored one lacks or has with another value.
/// If there are none, the reading is a repetition.
#[must_use]
pub fn differing<'a>(again: impl Into<RowRef<'a>>, stored: impl Into<RowRef<'a>>) -> Vec<String> {
    let RowRef { rows: again, row } = again.into();
    let RowRef { rows: stored, row: at } = stored.into();
    let mut fields = Vec::new();
    for (field, column) in again.schema_ref().fields().iter().zip(again.columns()) {
        let name = field.name().as_str();
        // A column that is null says nothing, so a repetition may lack values that are stored.
        if METADATA.contains(&name) || name == EXTRA || column.is_null(row) {
            continue;
        }
        let before = stored.column_by_name(name).map(|column| column.slice(at, 1));
        if before.is_none_or(|before| *before != *column.slice(row, 1)) {
            fields.push(name.to_owned());
        }
    }
    let before = extra(stored, at);
    let others = extra(again, row).into_iter().filter(|(name, value)| {
        let says = !value.is_null() && !value.as_str().is_some_and(is_not_a_value);
        says && name != UPTIME && !before.get(name).is_some_and(|before| same(before, value))
    });
    fields.extend(others.map(|(name, _)| name.chars().take(64).collect()));
    fields
}

/// The detail of a dead letter: the names of the fields.
#[must_use]
pub fn named(fields: &[String]) -> String {
    let named = fields.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match fields.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn extra(rows: &RecordBatch, row: usize) -> Map<String, Value> {
    let column = rows.column_by_name(EXTRA).map(|column| column.as_string::<i32>());
    let text = column.filter(|column| column.is_valid(row)).map(|column| column.value(row));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Compares numbers by value: 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    let is_whole = |value: &Value| value.is_i64() || value.is_u64();
    // As floats, two counters beyond 2^53 could look equal, and the second reading would be lost.
    if is_whole(a) && is_whole(b) {
        return a == b;
    }
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq() || (a == 0.0 && b == 0.0),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;
