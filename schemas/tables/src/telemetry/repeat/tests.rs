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

fn says(again: &str, stored: &str) -> Vec<String> {
    let mut fields = differing((&rows(again), 0), (&rows(stored), 0));
    fields.sort();
    fields
}

/// As floats these counters are the same number, and the second reading would be dropped as a repetition.
#[test]
fn whole_numbers_beyond_the_digits_of_a_float_are_told_apart() {
    let of = |n: u64| format!(r#"{{"ts":1778951132,"f":50,"pulses":{n}}}"#);
    assert_eq!(says(&of(9_007_199_254_740_993), &of(9_007_199_254_740_992)), ["pulses"]);
    assert_eq!(says(&of(u64::MAX), &of(u64::MAX - 1)), ["pulses"]);
    assert_eq!(says(&of(u64::MAX), &of(u64::MAX)), Vec::<String>::new());
}

#[test]
fn extra_fields_are_compared_by_value_and_not_by_text() {
    let of = |value: &str| format!(r#"{{"ts":1778951132,"x":{value}}}"#);
    for (again, stored) in [
        ("1", "1.0"),
        ("1e3", "1000"),
        ("-0.0", "0"),
        (r#"{"a":1,"b":2}"#, r#"{"b":2, "a":1}"#),
        (r#""\u0041""#, r#""A""#),
        ("null", "5"),
        (r#""nan""#, "5"),
        ("-inf", "5"),
    ] {
        assert_eq!(says(&of(again), &of(stored)), Vec::<String>::new(), "{again} {stored}");
    }
    for (again, stored) in [
        ("1", "2"),
        ("1.5", "1"),
        ("1", r#""1""#),
        ("true", "1"),
        ("[1,2]", "[2,1]"),
        (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
        ("5", "null"),
        ("5", "nan"),
        (r#""A""#, r#""a""#),
    ] {
        assert_eq!(says(&of(again), &of(stored)), ["x"], "{again} {stored}");
    }
}

#[test]
fn less_is_a_repetition_and_more_is_not() {
    let (less, more) =
        (r#"{"ts":1778951132,"f":50}"#, r#"{"ts":1778951132,"f":50,"v1":230,"x":1,"lt":"r"}"#);
    assert_eq!(says(less, more), Vec::<String>::new());
    assert_eq!(says(more, less), ["load_type", "voltage_l1_v", "x"]);
    // A value too large for its column is beside it, and differs from the one in it.
    assert_eq!(says(r#"{"ts":1778951132,"f":1e300}"#, less), ["f"]);
}

#[test]
fn how_a_reading_came_makes_no_difference() {
    let first = r#"{"ts":1778951132,"f":50,"source":"live","connection":"wifi","seq":1,"boot":1,"uptime_ms":5}"#;
    let again = r#"{"ts":1778951132,"f":50,"source":"sd","connection":"gsm","seq":2,"boot":2,"uptime_ms":6}"#;
    assert_eq!(says(again, first), Vec::<String>::new());
}

#[test]
fn a_row_of_a_batch_is_compared_with_any_other() {
    let batch = rows(
        r#"{"batch":[{"ts":1778951132,"f":50,"x":1},{"ts":1778951132,"f":51},{"ts":1778951132,"f":50}]}"#,
    );
    let of = |again, stored| differing((&batch, again), (&batch, stored));
    assert_eq!((of(2, 0), of(0, 2)), (vec![], vec!["x".to_owned()]));
    assert_eq!(of(1, 0), ["frequency_hz"]);
}

/// Rows that were stored before a column was added lack it.
#[test]
fn a_stored_row_without_the_column_says_nothing_about_it() {
    let again = rows(r#"{"ts":1778951132,"f":50,"v1":230,"x":1}"#);
    let names: Vec<usize> = again
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| !matches!(field.name().as_str(), "voltage_l1_v" | "extra"))
        .map(|(index, _)| index)
        .collect();
    let stored = again.project(&names).expect("columns");
    assert_eq!(differing((&again, 0), (&stored, 0)), ["voltage_l1_v", "x"]);
    assert_eq!(differing((&stored, 0), (&again, 0)), Vec::<String>::new());
}

#[test]
fn at_most_ten_fields_are_named_and_long_names_are_cut() {
    let fields = |n: usize| (0..n).map(|i| format!("f{i}")).collect::<Vec<_>>();
    assert_eq!(named(&[]), "");
    assert_eq!(named(&fields(1)), "f0");
    assert_eq!(named(&fields(10)), "f0, f1, f2, f3, f4, f5, f6, f7, f8, f9");
    assert_eq!(named(&fields(11)), "f0, f1, f2, f3, f4, f5, f6, f7, f8, f9 and 1 more");
    let long = format!(r#"{{"ts":1778951132,"{}":1}}"#, "ü".repeat(100));
    assert_eq!(says(&long, r#"{"ts":1778951132}"#), ["ü".repeat(64)]);
}
