use acuvim_wire::time::{parse_rfc3339, to_rfc3339};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Micros {
    parse_rfc3339(text).expect(text)
}

fn buckets(interval: &str, tz: &str) -> Buckets {
    Buckets::new(Interval::parse(interval).expect(interval), tz.parse().expect(tz)).expect(interval)
}

fn start(interval: &str, tz: &str, ts: &str) -> String {
    to_rfc3339(buckets(interval, tz).start(at(ts)).expect("in the calendar")).replace(".000", "")
}

#[test]
fn intervals_are_read_and_nonsense_is_not() {
    assert_eq!(Interval::parse("15m"), Some(Interval::Fixed(900 * SECOND)));
    assert_eq!(Interval::parse("1w"), Some(Interval::Days(7)));
    assert_eq!(Interval::parse("1y"), Some(Interval::Months(12)));
    for bad in ["", "5", "m", "0m", "-5m", "5 m", "99999999999s", "2147483647y", "1fortnight"] {
        assert_eq!(Interval::parse(bad), None, "{bad}");
    }
    assert_eq!(Interval::new(1, 1, 0), None);
}

#[test]
fn lengths_that_a_change_of_clocks_would_tear_are_refused() {
    let of = |interval: &str, tz: &str| {
        Buckets::new(Interval::parse(interval).expect(interval), tz.parse().expect(tz))
    };
    assert!(of("40m", "America/New_York").is_none());
    assert!(of("7m", "America/New_York").is_none());
    assert!(of("40m", "UTC").is_some());
    assert!(of("30m", "America/New_York").is_some());
}

#[test]
fn days_follow_the_zone() {
    let ts = "2026-05-16T22:30:00Z";
    assert_eq!(start("1d", "UTC", ts), "2026-05-16T00:00:00Z");
    assert_eq!(start("1d", "Africa/Johannesburg", ts), "2026-05-16T22:00:00Z");
    assert_eq!(start("1d", "America/New_York", ts), "2026-05-16T04:00:00Z");
    assert_eq!(start("1w", "UTC", ts), "2026-05-11T00:00:00Z");
    assert_eq!(start("1mo", "Africa/Johannesburg", "2026-05-31T23:00:00Z"), "2026-05-31T22:00:00Z");
    assert_eq!(start("1h", "Asia/Kolkata", ts), "2026-05-16T22:30:00Z");
}

/// Every bucket of a day, as offsets in hours from its beginning.
fn hours(interval: &str, tz: &str, from: &str, to: &str) -> Vec<f64> {
    let buckets = buckets(interval, tz);
    let (first, end) = (buckets.start(at(from)).expect("start"), at(to));
    let mut all = vec![first];
    while let Some(next) = buckets.next(all[all.len() - 1]).filter(|next| *next < end) {
        all.push(next);
    }
    all.into_iter().map(|t| (t - first) as f64 / HOUR as f64).collect()
}

#[test]
fn days_of_23_and_25_hours_have_as_many_buckets() {
    // Clocks go forward on 2026-03-29 at 01:00 UTC and back on 2026-10-25 at 01:00 UTC.
    let (from, to) = ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    assert_eq!(hours("1h", "Europe/Berlin", from, to).len(), 23);
    assert_eq!(hours("6h", "Europe/Berlin", from, to), [0.0, 5.0, 11.0, 17.0]);
    let (from, to) = ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    assert_eq!(hours("1h", "Europe/Berlin", from, to).len(), 25);
    assert_eq!(hours("6h", "Europe/Berlin", from, to), [0.0, 7.0, 13.0, 19.0]);
    let days = hours("1d", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-27T12:00:00Z");
    assert_eq!(days, [0.0, 24.0, 49.0, 73.0]);
    // New York goes forward at 02:00 local, which two-hour buckets begin at.
    let two = hours("2h", "America/New_York", "2026-03-08T05:00:00Z", "2026-03-08T11:00:00Z");
    assert_eq!(two, [0.0, 2.0, 3.0, 5.0]);
    // Cairo sets its clocks forward at midnight: that day begins at one.
    assert_eq!(start("1d", "Africa/Cairo", "2026-04-24T12:00:00Z"), "2026-04-23T22:00:00Z");
    // Lord Howe moves by half an hour.
    let lord = hours("1h", "Australia/Lord_Howe", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z");
    assert!(lord.len() >= 24, "{lord:?}");
}

proptest! {
    #[test]
    fn every_moment_is_in_the_bucket_that_holds_it(
        ts in at("2019-01-01T00:00:00Z")..at("2031-01-01T00:00:00Z"),
        interval in prop::sample::select(vec!["10s", "15m", "30m", "1h", "2h", "5h", "6h", "1d", "3d", "1w", "1mo", "1y"]),
        tz in prop::sample::select(vec![
            "UTC", "Africa/Johannesburg", "Europe/Berlin", "America/New_York", "Asia/Kolkata",
            "Australia/Lord_Howe", "Africa/Cairo", "America/Sao_Paulo", "Pacific/Apia",
        ]),
    ) {
        let buckets = buckets(interval, tz);
        let start = buckets.start(ts).expect("start");
        let next = buckets.next(start).expect("next");
        prop_assert!(start <= ts && ts < next, "{start} {ts} {next}");
        prop_assert_eq!(buckets.start(start), Some(start));
        for later in [1, 900, 3600, 5400] {
            prop_assert!(buckets.start(ts + later * SECOND) >= Some(start), "never back");
        }
        prop_assert_eq!(buckets.start(next - 1), Some(start));
    }
}

#[test]
fn an_interval_is_one_positive_length_of_one_kind() {
    assert_eq!(Interval::new(0, 0, 1), Some(Interval::Fixed(1)));
    assert_eq!(Interval::new(1200, 0, 0), Some(Interval::Months(1200)));
    assert_eq!(Interval::new(1201, 0, 0), None);
    assert_eq!(Interval::new(0, 36_525, 0), Some(Interval::Days(36_525)));
    assert_eq!(Interval::new(0, 36_526, 0), None);
    assert_eq!(Interval::new(0, 0, MAX_DAYS * DAY), Some(Interval::Fixed(MAX_DAYS * DAY)));
    assert_eq!(Interval::new(0, 0, MAX_DAYS * DAY + 1), None);
    for (months, days, micros) in
        [(0, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 1, 1), (1, 0, 1)]
    {
        assert_eq!(Interval::new(months, days, micros), None, "{months} {days} {micros}");
    }
    for (text, wanted) in [("90min", 5400), ("90m", 5400), ("2h", 7200), ("36000s", 36_000)] {
        assert_eq!(Interval::parse(text), Some(Interval::Fixed(wanted * SECOND)), "{text}");
    }
    assert_eq!(Interval::parse("2mo"), Some(Interval::Months(2)));
    assert_eq!(
        (Interval::parse("1H"), Interval::parse("+1h"), Interval::parse("１h")),
        (None, None, None)
    );
}

#[test]
fn longer_intervals_begin_where_the_calendar_has_a_reason_to() {
    assert_eq!(start("3mo", "UTC", "2026-05-16T12:00:00Z"), "2026-04-01T00:00:00Z");
    assert_eq!(start("1y", "Asia/Tokyo", "2025-12-31T14:59:59Z"), "2024-12-31T15:00:00Z");
    assert_eq!(start("1y", "Asia/Tokyo", "2025-12-31T15:00:00Z"), "2025-12-31T15:00:00Z");
    assert_eq!(start("2w", "UTC", "2026-05-16T12:00:00Z"), "2026-05-11T00:00:00Z");
    assert_eq!(start("1mo", "UTC", "1969-12-31T23:59:59Z"), "1969-12-01T00:00:00Z");
    assert_eq!(start("10s", "UTC", "1969-12-31T23:59:59Z"), "1969-12-31T23:59:50Z");
}

#[test]
fn the_repeated_hour_is_two_buckets_and_longer_ones_are_one() {
    // Clocks in Berlin go back from 03:00 to 02:00 at 01:00 UTC.
    let (first, second) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    assert_eq!(start("1h", "Europe/Berlin", first), "2026-10-25T00:00:00Z");
    assert_eq!(start("1h", "Europe/Berlin", second), "2026-10-25T01:00:00Z");
    assert_eq!(start("2h", "Europe/Berlin", first), "2026-10-25T00:00:00Z");
    assert_eq!(start("2h", "Europe/Berlin", second), "2026-10-25T00:00:00Z");
}

#[test]
fn times_outside_the_calendar_have_no_bucket() {
    let days = buckets("1d", "Europe/Berlin");
    assert_eq!((days.start(Micros::MAX), days.start(Micros::MIN)), (None, None));
    let seconds = buckets("10s", "UTC");
    assert_eq!(seconds.start(Micros::MIN), None);
    assert!(seconds.start(Micros::MAX).is_some());
    assert_eq!(seconds.next(Micros::MAX - 5), None);
}

#[test]
fn buckets_are_added_up_from_quarters_only_where_they_are_whole() {
    let (from, to) = (at("2026-03-01T00:00:00Z"), at("2026-04-30T00:00:00Z"));
    let made_of = |interval: &str, tz: &str| buckets(interval, tz).is_made_of(HOUR / 4, from, to);
    assert!(
        made_of("15m", "UTC") && made_of("1h", "Asia/Kathmandu") && made_of("1d", "Europe/Berlin")
    );
    assert!(made_of("1mo", "Africa/Cairo"));
    assert!(!made_of("10m", "UTC") && !made_of("30s", "UTC"));
    // Before 1892 local time in Amsterdam was not a whole quarter from UTC.
    let old = (at("1880-01-01T00:00:00Z"), at("1881-01-01T00:00:00Z"));
    assert!(!buckets("1d", "Europe/Amsterdam").is_made_of(HOUR / 4, old.0, old.1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn buckets_follow_each_other_without_gaps(
        ts in at("2019-01-01T00:00:00Z")..at("2031-01-01T00:00:00Z"),
        interval in prop::sample::select(vec!["15m", "1h", "3h", "1d", "1w", "1mo"]),
        tz in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Cairo",
        ]),
    ) {
        let buckets = buckets(interval, tz);
        let mut start = buckets.start(ts).expect("start");
        for _ in 0..30 {
            let next = buckets.next(start).expect("next");
            prop_assert!(next > start);
            prop_assert_eq!(buckets.start(next), Some(next));
            prop_assert_eq!(buckets.start(next - 1), Some(start));
            start = next;
        }
    }
}
