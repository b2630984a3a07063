//! The range that a caller asks for, and how fresh readings are.

use acuvim_wire::time::MINUTE;

use super::*;

/// 2026-05-16T12:07:00Z
const NOW: Micros = 1_778_933_220_000_000;

fn asked(from: Option<&str>, to: Option<&str>) -> Result<Range<Micros>, String> {
    let params = StatsParams { from: from.map(str::to_owned), to: to.map(str::to_owned) };
    range(&params, NOW).map_err(|error| error.problem.errors[0].field.clone())
}

#[test]
fn without_a_range_it_is_the_last_day_from_the_beginning_of_a_quarter() {
    let range = asked(None, None).expect("a range");
    assert_eq!(range.end, NOW);
    assert_eq!(range.start, NOW - DAY - 7 * MINUTE);
    let range = asked(None, Some("2026-05-01T00:15:00Z")).expect("a range");
    assert_eq!(range.end - range.start, DAY, "a quarter has just begun");
}

#[test]
fn a_range_is_at_most_400_days_long_as_the_caller_gives_it() {
    let from = Some("2025-01-01T00:07:00Z");
    assert!(asked(from, Some("2026-02-05T00:07:00Z")).is_ok(), "exactly 400 days");
    assert_eq!(asked(from, Some("2026-02-05T00:07:01Z")), Err("to".to_owned()));
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused_also_within_a_quarter() {
    for (from, to) in [
        ("2026-05-01T12:07:00Z", "2026-05-01T12:05:00Z"),
        ("2026-05-01T12:07:00Z", "2026-05-01T12:07:00Z"),
        ("2026-05-02T00:00:00Z", "2026-05-01T00:00:00Z"),
    ] {
        assert_eq!(asked(Some(from), Some(to)), Err("to".to_owned()), "{from} to {to}");
    }
    assert_eq!(asked(Some("yesterday"), None), Err("from".to_owned()));
    assert_eq!(asked(None, Some("2026-05-01T00:00:00")), Err("to".to_owned()), "without a zone");
}

#[test]
fn a_condition_has_its_beginning_and_not_its_end() {
    assert_eq!(
        within("ts", &(0..MINUTE)),
        "ts >= TIMESTAMP '1970-01-01T00:00:00.000Z' AND ts < TIMESTAMP '1970-01-01T00:01:00.000Z'"
    );
}
