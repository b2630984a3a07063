//! Two readings of one device and one time: whether the second says anything that the first does not.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::{item::is_not_a_value, split::split};
use crate::tables::DATE;

/// Columns that say whose a reading is and how it came, and not what was measured.
const BESIDE: [&str; 12] = [
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

/// What of `extra` is of the device's clock and not of the reading.
const OF_CLOCK: &str = "uptime_ms";

/// Fields that are named.
const NAMED: usize = 10;

/// The fields that a reading, a row of `telemetry`, has and another of its time has not, or has
/// otherwise; none: it is a repetition.
#[must_use]
pub fn differing(again: (&RecordBatch, usize), stored: (&RecordBatch, usize)) -> Vec<String> {
    let ((again, row), (stored, at)) = (again, stored);
    let mut fields = Vec::new();
    for (field, column) in again.schema_ref().fields().iter().zip(again.columns()) {
        let name = field.name().as_str();
        if BESIDE.contains(&name) || name == EXTRA || column.is_null(row) {
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
        says && name != OF_CLOCK && !before.get(name).is_some_and(|before| same(before, value))
    });
    fields.extend(others.map(|(name, _)| name.chars().take(64).collect()));
    fields
}

/// Fields by name, as a dead letter's detail.
#[must_use]
pub fn named(fields: &[String]) -> String {
    let named = fields.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match fields.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The items of a payload, at most so many.
#[must_use]
pub fn items_of(payload: &[u8], most: usize) -> Vec<&[u8]> {
    split(payload, most).map(|items| items.list().to_vec()).unwrap_or_default()
}

/// The bytes of one of a payload's items, as a dead letter of its own would keep them.
#[must_use]
pub fn item_of(payload: &Bytes, items: &[&[u8]], item: i32) -> Bytes {
    match usize::try_from(item).ok().and_then(|item| items.get(item)) {
        Some(item) if items.len() > 1 => Bytes::copy_from_slice(item),
        _ => payload.clone(),
    }
}

fn extra(rows: &RecordBatch, row: usize) -> Map<String, Value> {
    let column = rows.column_by_name(EXTRA).map(|column| column.as_string::<i32>());
    let text = column.filter(|column| column.is_valid(row)).map(|column| column.value(row));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// 1 and 1.0 are the same.
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
    use crate::{
        record::Position,
        telemetry::{Decoder, Limits, RecordFacts, Source},
    };

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
    fn a_repetition_says_nothing_new() {
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

    #[test]
    fn an_item_is_found_in_its_payload() {
        let batch = Bytes::from_static(b"{\"batch\":[{\"ts\":1},{\"ts\":2}]}");
        assert_eq!(item_of(&batch, &items_of(&batch, 500), 1).as_ref(), b"{\"ts\":2}");
        let one = Bytes::from_static(b"{\"ts\":1}\0");
        assert_eq!(item_of(&one, &items_of(&one, 500), 0), one);
    }
}
