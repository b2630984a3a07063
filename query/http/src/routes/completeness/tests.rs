//! Hours at the edges of a range, and of the time that is yet to come.

use acuvim_wire::time::{SECOND, parse_rfc3339};
use serde_json::json;

use super::*;

fn at(text: &str) -> Micros {
    parse_rfc3339(text).expect("a time")
}

/// The hours from half past twelve to a quarter past two, of which so much is due.
fn hours(due_until: &str, interval_s: Option<i64>) -> Vec<(String, i64, Option<i64>)> {
    let range = at("2026-05-01T00:30:00Z")..at("2026-05-01T02:15:00Z");
    let due = range.start..at(due_until);
    let rows = [vec![json!("2026-05-01T01:00:00.000Z"), json!(7)]];
    let hours = by_hour(&rows, &range, &due, interval_s).into_iter();
    hours.map(|hour| (hour.hour[11..16].to_owned(), hour.stored, hour.expected)).collect()
}

#[test]
fn an_hour_that_the_range_cuts_expects_its_part_alone() {
    let want = [("00:00", 0, Some(180)), ("01:00", 7, Some(360)), ("02:00", 0, Some(90))];
    let want = want.map(|(hour, stored, expected)| (hour.to_owned(), stored, expected));
    assert_eq!(hours("2026-05-01T02:15:00Z", Some(10)), want);
}

#[test]
fn nothing_is_expected_of_the_time_to_come_or_of_an_unknown_interval() {
    let expected = |due, interval| hours(due, interval).into_iter().map(|hour| hour.2);
    let now = "2026-05-01T01:15:00Z";
    assert!(expected(now, Some(10)).eq([Some(180), Some(90), Some(0)]));
    let before = "2026-05-01T00:30:00Z";
    assert!(expected(before, Some(10)).eq([Some(0), Some(0), Some(0)]));
    assert!(expected(now, None).eq([None, None, None]));
}

#[test]
fn a_range_within_an_hour_has_that_hour() {
    let start = at("2026-05-01T00:59:59Z");
    let range = start..start + SECOND;
    assert_eq!(by_hour(&[], &range, &range, None).len(), 1);
    let over = start..start + SECOND + 1;
    assert_eq!(by_hour(&[], &over, &over, None).len(), 2, "a microsecond of the next");
    let day = at("2026-05-01T00:00:00Z")..at("2026-05-02T00:00:00Z");
    assert_eq!(by_hour(&[], &day, &day, Some(60)).len(), 24);
}
