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
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq() || (a == 0.0 && b == 0.0),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::{Decoder, Source};
    use acuvim_wire::{Position, record::RecordFacts, telemetry::Limits};
    use bytes::Bytes;

    fn rows(payload: &str) -> RecordBatch {
        let facts = RecordFacts {
            device_id: "d1",
            kind: "telemetry",
            topic: "t",
            received_at: 1_778_951_140_000_000,
            epoch: 0,
            position: Position { partition: 0, offset: 0 },
        };
        let mut decoder = Decoder::new(Limits::default(), Arc::default());
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let source = Source { facts, payload: &payload, resolved_ts: None };
        decoder.push(&source, &mut |letter| panic!("{letter:?}"));
        decoder.finish().expect("schema").rows
    }

    #[test]
    fn a_repetition_has_no_differing_fields() {
        let first = rows(r#"{"ts":1778951132,"f":50.01,"v1":230.4,"rssi":-61,"seq":5}"#);
        let says = |json: &str| differing((&rows(json), 0), (&first, 0));
        for again in [
            r#"{"ts":1778951132,"f":50.01,"v1":230.4,"rssi":-61,"seq":5}"#,
            r#"{"ts":1778951132.0,"source":"sd","data":{"frequency_hz":50.010,"rssi":-61.0},"uptime_ms":9}"#,
            r#"{"ts":1778951132,"f":null,"v2":"NaN","v3":nan,"seq":9}"#,
            r#"{"ts":1778951132}"#,
        ] {
            assert_eq!(says(again), Vec::<String>::new(), "{again}");
        }
        for (other, fields) in [
            (r#"{"ts":1778951132,"i1":3.5,"i2":3.6}"#, &["current_l1_a", "current_l2_a"][..]),
            (r#"{"ts":1778951132,"f":50.02}"#, &["frequency_hz"]),
            (r#"{"ts":1778951132,"lt":"inductive"}"#, &["load_type"]),
            (r#"{"ts":1778951132,"f":50.01,"rssi":-62,"door":true}"#, &["door", "rssi"]),
        ] {
            let mut found = says(other);
            found.sort();
            assert_eq!(found, fields, "{other}");
        }
        let many: Vec<String> = (0..12).map(|n| format!("f{n}")).collect();
        assert_eq!(named(&many), "f0, f1, f2, f3, f4, f5, f6, f7, f8, f9 and 2 more");
    }
}
