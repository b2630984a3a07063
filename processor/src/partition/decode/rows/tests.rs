use acuvim_wire::time::SECOND;

use super::*;
use crate::partition::{
    decode::DeviceReport,
    testing::{Sent, rows},
};

/// 2026-05-16T17:05:32Z
const BEGIN: Micros = 1_778_951_132 * SECOND;

fn reading(device: &str, second: i64, late: Micros) -> Sent<'_> {
    let ts = BEGIN + second * SECOND;
    (device, ts, ts + late, r#""f":50"#)
}

fn unknown(device: &str, row: usize) -> Unknown {
    Unknown { device_id: device.to_owned(), ts: BEGIN, row, keys: Vec::new() }
}

#[test]
fn rows_are_cut_at_an_offset() {
    let all = rows(&[reading("a", 0, 0), reading("a", 1, 0), reading("a", 2, 0)]);
    let left = |from: i64| from_offset(&all, from).num_rows();
    assert_eq!([left(-1), left(0), left(1), left(2), left(3), left(99)], [3, 3, 2, 1, 0, 0]);
    assert_eq!(from_offset(&all.slice(0, 0), 5).num_rows(), 0);
}

#[test]
fn a_device_with_one_unknown_reading_is_not_among_the_known() {
    let all =
        rows(&[reading("a", 5, 0), reading("b", 1, 0), reading("b", 3, 0), reading("a", 2, 0)]);
    let (left, known) = split_by_keys(&all, vec![unknown("a", 3)], 0);
    assert_eq!(left.len(), 1);
    let known: Vec<_> = known.iter().map(|(id, ts)| (&**id, (ts - BEGIN) / SECOND)).collect();
    assert_eq!(known, [("b", 3)], "with the newest of its readings");
}

#[test]
fn readings_that_control_has_are_neither_known_nor_unknown() {
    let all = rows(&[reading("a", 0, 0), reading("b", 1, 0), reading("c", 2, 0)]);
    let (left, known) = split_by_keys(&all, vec![unknown("a", 0), unknown("c", 2)], 1);
    let left: Vec<_> = left.iter().map(|one| one.device_id.as_str()).collect();
    assert_eq!((left, known.len()), (vec!["c"], 1));
    assert!(known.contains_key("b"));
}

#[test]
fn where_unknown_readings_are_cut_off_nobody_is_known() {
    let all = rows(&[reading("a", 0, 0)]);
    let many = |count: usize| (0..count).map(|_| unknown("x", 0)).collect::<Vec<_>>();
    assert_eq!(split_by_keys(&all, many(MOST_UNKNOWN - 1), 0).1.len(), 1);
    assert!(split_by_keys(&all, many(MOST_UNKNOWN), 0).1.is_empty());
}

#[test]
fn a_reading_from_a_buffer_is_no_evidence_about_the_clock() {
    let reports = |late: Micros| {
        let mut updates = DeviceUpdates::new(Limits::default());
        note_clocks(&rows(&[reading("a", 0, late)]), &mut updates);
        updates.reports
    };
    assert!(matches!(&reports(LATE - 1)[..], [(_, DeviceReport::Clock { ahead: None, .. })]));
    assert!(reports(LATE).is_empty());
    let ahead = 90 * SECOND;
    let wanted = Some(ahead);
    assert!(
        matches!(&reports(-ahead)[..], [(_, DeviceReport::Clock { ahead, .. })] if *ahead == wanted)
    );
}

#[test]
fn the_newest_reading_of_a_device_is_one_whose_time_has_come() {
    let limits = Limits::default();
    let newest = |late: Micros| {
        let mut updates = DeviceUpdates::new(limits);
        updates.seen("a", BEGIN);
        note_readings(&rows(&[reading("a", 100, late)]), &limits, &mut updates);
        updates.take_changes().devices[0].telemetry.map(|at| at.timestamp_micros() - BEGIN)
    };
    assert_eq!(newest(-limits.max_ahead), Some(100 * SECOND));
    assert_eq!(newest(-limits.max_ahead - 1), None);
}
