use acuvim_tables::ledger::{Counts, Ledger};
use acuvim_wire::{Kind, time::SECOND};
use arrow::array::AsArray as _;

use super::*;
use crate::partition::{
    decode::Decoded,
    testing::{Sent, decode, message, rows, sent},
};

/// 2026-05-16T17:05:32Z
const BEGIN: Micros = 1_778_951_132 * SECOND;

fn at(second: i64) -> Micros {
    BEGIN + second * SECOND
}

fn reading(second: i64, fields: &str) -> Sent<'_> {
    ("d", at(second), at(100), fields)
}

fn verdicts(new: &[bool]) -> Verdicts {
    Verdicts { new: Some(BooleanArray::from(new.to_vec())), conflicts: BTreeMap::new() }
}

fn conflicts(
    readings: &[Sent<'_>],
    new: &[bool],
    stored: &StoredReadings,
) -> Vec<(usize, Vec<String>)> {
    let found = find_conflicts(&rows(readings), &BooleanArray::from(new.to_vec()), stored);
    found.unwrap_or_else(|error| panic!("{error}")).into_iter().collect()
}

#[test]
fn a_repetition_is_no_conflict_and_other_values_are() {
    let all = [reading(0, r#""f":50"#), reading(0, r#""f":50.00"#), reading(0, r#""f":51"#)];
    let found = conflicts(&all, &[true, false, false], &StoredReadings::default());
    assert_eq!(found, [(2, vec!["frequency_hz".to_owned()])]);
}

#[test]
fn a_reading_is_compared_with_the_stored_one_of_its_device_and_time() {
    let mut stored = StoredReadings::default();
    let other = ("e", at(0), at(100), r#""f":51"#);
    for batch in [rows(&[reading(0, r#""f":50"#), other]), rows(&[reading(9, r#""f":49"#)])] {
        stored.add(batch).unwrap_or_else(|error| panic!("{error}"));
    }
    let fields = |second: i64, fields: &str| {
        conflicts(&[reading(second, fields)], &[false], &stored).into_iter().next()
    };
    assert_eq!(fields(0, r#""f":50"#), None);
    assert_eq!(fields(9, r#""f":49"#), None, "it is in the second batch");
    assert_eq!(fields(9, r#""f":50"#), Some((0, vec!["frequency_hz".to_owned()])));
    let found = fields(0, r#""f":50,"v1":230"#).expect("a conflict");
    assert_eq!(found.1, ["voltage_l1_v"], "a field that the stored one lacks");
    assert_eq!(fields(5, r#""f":1"#), None, "retention has dropped what it could be compared with");
}

#[test]
fn a_reading_of_the_batch_is_compared_with_before_the_stored_one() {
    let mut stored = StoredReadings::default();
    stored.add(rows(&[reading(0, r#""f":1"#)])).unwrap_or_else(|error| panic!("{error}"));
    let all = [reading(0, r#""f":50"#), reading(0, r#""f":50"#)];
    assert_eq!(conflicts(&all, &[true, false], &stored), []);
}

/// The dead letters of conflicting rows, as offset, item and payload.
fn letters(decoded: &Decoded, conflicting: &[usize]) -> Vec<(i64, i32, String)> {
    let found: verdicts::Conflicts =
        conflicting.iter().map(|row| (*row, vec!["frequency_hz".to_owned()])).collect();
    let Rows { telemetry, dead_letters, .. } = &decoded.rows;
    let letters = with_conflicts(dead_letters, telemetry, &found, &decoded.messages, 500)
        .unwrap_or_else(|error| panic!("{error}"));
    let column = |name: &str| letters.column_by_name(name).expect("a column");
    let offsets = column("offset").as_primitive::<arrow::datatypes::Int64Type>();
    let items = column("item").as_primitive::<arrow::datatypes::Int32Type>();
    let payloads = column("payload").as_binary::<i32>();
    (0..letters.num_rows())
        .map(|row| {
            let text = String::from_utf8_lossy(payloads.value(row)).into_owned();
            (offsets.value(row), items.value(row), text)
        })
        .collect()
}

#[test]
fn conflicting_readings_become_dead_letters_with_their_own_payload() {
    let line = |ts, f| format!(r#"{{"ts":{ts},"f":{f}}}"#);
    let begin = BEGIN / SECOND;
    let batch = [line(begin, 50), line(begin, 51), line(begin + 1, 52)].join("\n");
    let decoded = decode(vec![
        message(Kind::Telemetry, "d", &batch, at(5)),
        message(Kind::Telemetry, "d", "broken", at(6)),
        message(Kind::Telemetry, "d", &format!(r#"{{"ts":{},"f":53}}"#, BEGIN / SECOND), at(7)),
    ]);
    let found = letters(&decoded, &[1, 2, 3]);
    let positions: Vec<_> = found.iter().map(|(offset, item, _)| (*offset, *item)).collect();
    assert_eq!(positions, [(0, 1), (0, 2), (1, 0), (2, 0)], "in the order of the log");
    assert!(found[0].2.contains(r#""f":51"#) && !found[0].2.contains(r#""f":50"#), "{found:?}");
    assert!(found[1].2.contains(r#""f":52"#), "{found:?}");
    assert_eq!(found[2].2, "broken");
    assert!(found[3].2.contains(r#""f":53"#), "{found:?}");
}

#[test]
fn a_conflicting_row_without_its_message_is_a_fault_of_the_stream() {
    let mut decoded = sent(&[reading(0, r#""f":50"#)]);
    decoded.messages.clear();
    let found = BTreeMap::from([(0, vec!["frequency_hz".to_owned()])]);
    let Rows { telemetry, dead_letters, .. } = &decoded.rows;
    let error = with_conflicts(dead_letters, telemetry, &found, &decoded.messages, 500);
    assert!(matches!(error, Err(Fatal::Broken(text)) if text.contains("offset 0 has no message")));
}

#[test]
fn rows_without_times_are_a_fault_of_the_stream() {
    let rows = rows(&[reading(0, r#""f":50"#)]).project(&[0]).expect("a column");
    assert!(matches!(devices_and_times(&rows), Err(Fatal::Broken(_))));
    assert!(StoredReadings::default().add(rows).is_err());
}

fn counted(rows: &RecordBatch, verdicts: &Verdicts, from: i64) -> Counts {
    let mut ledger = Ledger::default();
    count(&mut ledger, rows, verdicts, from, |counts| counts.stored = 1);
    ledger.total()
}

#[test]
fn every_row_is_counted_as_what_became_of_it() {
    let all = [0, 1, 1, 2].map(|second| reading(second, r#""f":50"#));
    let rows = rows(&all);
    let mut found = verdicts(&[true, true, false, false]);
    found.conflicts.insert(3, vec!["frequency_hz".to_owned()]);
    let total = counted(&rows, &found, 0);
    assert_eq!((total.stored, total.duplicates, total.same_ts), (2, 1, 1));
    let total = counted(&rows, &Verdicts::default(), 0);
    assert_eq!((total.stored, total.duplicates), (4, 0), "without verdicts all are new");
}

#[test]
fn rows_that_the_ledger_has_are_not_counted_again() {
    let all = [0, 1, 2].map(|second| reading(second, r#""f":50"#));
    let rows = rows(&all);
    assert_eq!(counted(&rows, &verdicts(&[true, false, true]), 1).stored, 1);
    assert_eq!(counted(&rows, &verdicts(&[true, false, true]), 1).duplicates, 1);
    assert_eq!(counted(&rows, &Verdicts::default(), 3), Counts::default());
}

#[test]
fn what_was_not_stored_is_counted_for_its_device_too() {
    let rows = rows(&[reading(0, r#""f":50"#), reading(1, r#""f":50"#)]);
    let mut ledger = Ledger::default();
    count(&mut ledger, &rows, &verdicts(&[true, false]), 0, |counts| counts.stored = 1);
    let written = ledger.rows(0, 0).expect("rows");
    let devices = written.column_by_name("device_id").expect("a column").as_string::<i32>();
    let devices: Vec<Option<&str>> = devices.iter().collect();
    assert_eq!(devices.iter().filter(|device| **device == Some("d")).count(), 1);
    assert_eq!(devices.iter().filter(|device| device.is_none()).count(), 1);
}
