use acuvim_wire::time::SECOND;

use super::*;
use crate::partition::testing::rows;

/// 2026-05-16T17:05:32Z
const BEGIN: Micros = 1_778_951_132 * SECOND;

/// Readings of a counter: minutes and values.
fn imports(readings: &[(i64, f64)]) -> RecordBatch {
    let fields: Vec<String> =
        readings.iter().map(|(_, value)| format!(r#""ei":{value}"#)).collect();
    let sent: Vec<_> = readings
        .iter()
        .zip(&fields)
        .map(|((minute, _), fields)| {
            let ts = BEGIN + minute * 60 * SECOND;
            ("d", ts, ts, fields.as_str())
        })
        .collect();
    rows(&sent)
}

fn follow(counters: &mut Counters, rows: &RecordBatch) -> Vec<(i64, f64, u32)> {
    let suspects = counters.follow(rows, &Meters::default(), &Limits::default());
    let minute = |s: &SuspectReading| (s.reading.ts - BEGIN) / (60 * SECOND);
    suspects.iter().map(|s| (minute(s), s.reading.value, s.times)).collect()
}

#[test]
fn a_counter_that_counts_is_never_suspect() {
    let mut counters = Counters::default();
    let plain = imports(&[(0, 1000.0), (1, 1000.2), (2, 1000.2), (3, 1001.5)]);
    assert_eq!(follow(&mut counters, &plain), []);
}

#[test]
fn a_register_that_reads_zero_once_is_suspect_when_the_counter_is_back() {
    let mut counters = Counters::default();
    assert_eq!(follow(&mut counters, &imports(&[(0, 1000.0), (1, 0.0)])), []);
    // It is known with the next reading, which may come in another batch.
    assert_eq!(follow(&mut counters, &imports(&[(2, 1000.5)])), [(1, 0.0, 1)]);
    assert_eq!(follow(&mut counters, &imports(&[(3, 1000.6)])), []);
}

#[test]
fn a_late_reading_is_left_out() {
    let mut counters = Counters::default();
    assert_eq!(follow(&mut counters, &imports(&[(10, 1000.0)])), []);
    assert_eq!(follow(&mut counters, &imports(&[(5, 3.0), (10, 4.0)])), []);
    assert_eq!(follow(&mut counters, &imports(&[(11, 1000.1)])), []);
}

#[test]
fn a_reading_ahead_of_its_arrival_is_left_out() {
    let mut counters = Counters::default();
    let ahead = BEGIN + 3600 * SECOND;
    assert_eq!(follow(&mut counters, &rows(&[("d", ahead, BEGIN, r#""ei":1"#)])), []);
    // It would have made the others late.
    assert_eq!(
        follow(&mut counters, &imports(&[(1, 1000.0), (2, 0.0), (3, 1000.1)])),
        [(2, 0.0, 1)]
    );
}

#[test]
fn each_device_and_each_counter_is_followed_by_itself() {
    let mut counters = Counters::default();
    let at = |minute: i64| BEGIN + minute * 60 * SECOND;
    let both = |import: f64, export: f64| format!(r#""ei":{import},"ee":{export}"#);
    let (first, second) = (both(1000.0, 5.0), both(1000.1, 5.1));
    let batch = rows(&[
        ("a", at(0), at(0), &first),
        ("b", at(0), at(0), r#""ei":7"#),
        ("a", at(1), at(1), &second),
        ("b", at(1), at(1), r#""f":50"#),
        ("b", at(2), at(2), r#""ei":7.1"#),
    ]);
    assert_eq!(follow(&mut counters, &batch), []);
    assert_eq!(counters.devices.len(), 2);
}

#[test]
fn readings_without_counters_are_not_followed() {
    let mut counters = Counters::default();
    assert_eq!(follow(&mut counters, &rows(&[("d", BEGIN, BEGIN, r#""f":50"#)])), []);
    assert!(counters.devices.is_empty());
}
