use super::*;
use proptest::prelude::*;

#[test]
fn text_and_numbers_mean_the_same_moment() {
    let t = parse_rfc3339("2026-05-16T17:05:32.250Z");
    assert_eq!(t, Some(1_778_951_132_250_000));
    assert_eq!(t, parse_rfc3339("2026-05-16T19:05:32.250+02:00"));
    assert_eq!(t, from_unix_number(1_778_951_132_250.0));
    assert_eq!(t, from_unix_number(1_778_951_132.25));
    assert_eq!(t.map(to_rfc3339).as_deref(), Some("2026-05-16T17:05:32.250Z"));
    assert_eq!(t.map(to_local_text).as_deref(), Some("2026-05-16T17:05:32.250"));
    for micros in [1_778_951_132_250_999, -1, 1] {
        assert_eq!(parse_rfc3339(&to_rfc3339(micros)), Some(micros));
    }
}

#[test]
fn offsets_in_the_forms_of_c_but_no_ambiguous_ones() {
    let want = Ok(1_778_951_132_000_000);
    for good in [
        "2026-05-16T19:05:32+0200",
        "2026-05-16T19:05:32+02",
        "2026-05-16 19:05:32.000 +0200",
        "2026-05-16T17:05:32Z\0",
        "2026-05-16 17:05:32 UTC",
        "20260516T190532+0200",
        "2026-05-16T12:35:32,000-0430",
    ] {
        assert_eq!(parse_written(good, None), want, "{good}");
    }
    for bad in [
        "2026-05-16T19:05:32+2",
        "2026-05-16T19:05:32+200",
        "2026-05-16T19:05:32 CEST",
        "2026-05-16T19:05:32+02:0",
        "16/05/2026 19:05:32+0200",
        "2026-5-16T19:05:32+0200",
        "1778951132",
    ] {
        let said = parse_written(bad, None).expect_err(bad).to_string();
        assert!(said.contains(bad) && said.contains("+0200"), "{said}");
    }
    let naive = "2026-05-16T19:05:32";
    assert_eq!(parse_written(naive, None), Err(BadTime::NoOffset(naive.to_owned())));
    assert_eq!(parse_written(naive, Offset::parse("+02:00")), want);
}

#[test]
fn a_clock_that_was_never_set_is_in_1970() {
    assert!(is_unset(0) && is_unset(5 * SECOND) && is_unset(-2 * HOUR));
    assert!(!is_unset(YEAR_1971) && !is_unset(YEAR_2020) && !is_unset(-400 * DAY));
}

#[test]
fn no_zone_no_time_and_no_overflow() {
    for bad in ["2026-05-16T17:05:32", "yesterday", "", "9999999-01-01T00:00:00Z"] {
        assert_eq!(parse_rfc3339(bad), None, "{bad}");
    }
    for bad in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
        assert_eq!(from_unix_number(bad), None, "{bad}");
    }
}

#[test]
fn days_are_utc_days_before_the_epoch_too() {
    assert_eq!(day_of(0), 0);
    assert_eq!(day_of(-1), -1);
    assert_eq!(day_text(day_of(YEAR_2020)), "2020-01-01");
}

#[test]
fn a_number_is_in_milliseconds_from_1e11_on() {
    for (number, micros) in [
        (99_999_999_999.0, 99_999_999_999 * SECOND),
        (100_000_000_000.0, 100_000_000 * SECOND),
        (-99_999_999_999.0, -99_999_999_999 * SECOND),
        (-100_000_000_000.0, -100_000_000 * SECOND),
        (1_778_951_132.123_456, 1_778_951_132_123_456),
        (0.000_000_4, 0),
        (0.000_000_6, 1),
    ] {
        assert_eq!(from_unix_number(number), Some(micros), "{number}");
    }
    // The last milliseconds of the calendar, and the first beyond it.
    assert!(from_unix_number(8.19e15).is_some() && from_unix_number(-8.19e15).is_some());
    assert_eq!((from_unix_number(8.2e15), from_unix_number(-8.2e15)), (None, None));
}

#[test]
fn days_and_hours_that_the_calendar_has_not_are_refused() {
    assert!(parse_written("2028-02-29T00:00:00Z", None).is_ok());
    for bad in [
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "20260431T000000Z",
        "2026-05-16T24:00:00Z",
        "2026-05-16T17:60:00Z",
        "2026-05-16T17:05Z",
        "2026-05-16 1705Z",
        "2026-05-16",
        "17:05:32Z",
        "2026-05-16TT17:05:32Z",
        "2026-05-16T17:05:32.Z",
        "026-05-16T17:05:32+0000",
    ] {
        assert_eq!(parse_written(bad, None), Err(BadTime::Unreadable(bad.to_owned())), "{bad}");
    }
}

#[test]
fn a_leap_second_is_the_first_moment_of_the_next_minute() {
    let midnight = parse_rfc3339("2027-01-01T00:00:00Z").expect("a time");
    for leap in ["2026-12-31T23:59:60Z", "20261231T235960Z", "2026-12-31 23:59:60 +0000"] {
        assert_eq!(parse_written(leap, None), Ok(midnight), "{leap}");
    }
}

#[test]
fn fractions_are_read_in_every_form() {
    let second = 1_778_951_132 * SECOND;
    for (text, micros) in [
        ("2026-05-16T17:05:32.1Z", 100_000),
        ("2026-05-16T17:05:32.000001Z", 1),
        ("20260516T170532.250Z", 250_000),
        ("20260516T170532,25+00", 250_000),
        ("2026-05-16 17:05:32,123456 +0000", 123_456),
    ] {
        assert_eq!(parse_written(text, None), Ok(second + micros), "{text}");
    }
}

#[test]
fn an_offset_in_the_text_counts_more_than_the_one_for_times_without() {
    let unless = Offset::parse("+05:00");
    let want = Ok(1_778_951_132 * SECOND);
    for text in ["2026-05-16T19:05:32+0200", "2026-05-16T17:05:32Z", "2026-05-16T17:05:32 utc"] {
        assert_eq!(parse_written(text, unless), want, "{text}");
    }
    assert_eq!(parse_written("2026-05-16T22:05:32", unless), want);
    // An offset that can't be read is no reason to assume another.
    let bad = "2026-05-16T22:05:32+2";
    assert_eq!(parse_written(bad, unless), Err(BadTime::Unreadable(bad.to_owned())));
}

#[test]
fn offsets_are_less_than_a_day_and_minutes_less_than_an_hour() {
    for (text, seconds) in [
        ("z", 0),
        ("Gmt", 0),
        ("-00:00", 0),
        ("+23:59", 23 * 3600 + 59 * 60),
        ("-0930", -(9 * 3600 + 30 * 60)),
        ("+14", 14 * 3600),
    ] {
        assert_eq!(Offset::parse(text), Some(Offset(seconds)), "{text}");
    }
    for bad in [
        "",
        "+",
        "0200",
        "+24",
        "+2400",
        "+0260",
        "+2:00",
        "+02:0",
        "+020",
        "+0é0",
        "é",
        "+-2",
        "+02:00:00",
    ] {
        assert_eq!(Offset::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_long_text_is_cut_in_the_message() {
    let said = parse_written(&"ü".repeat(1000), None).expect_err("no time").to_string();
    assert_eq!(said.matches('ü').count(), 40, "{said}");
}

#[test]
fn times_beyond_the_calendar_are_empty_texts_and_no_panic() {
    for beyond in [i64::MAX, i64::MIN] {
        assert_eq!((to_datetime(beyond), to_rfc3339(beyond)), (None, String::new()));
        assert_eq!(to_local_text(beyond), "");
    }
    assert_eq!(day_text(i32::MAX), "");
    assert_eq!(day_of(i64::MAX), 106_751_991);
}

#[test]
fn a_day_begins_at_midnight_utc() {
    for (micros, day) in [(DAY - 1, 0), (DAY, 1), (-DAY, -1), (-DAY - 1, -2)] {
        assert_eq!(day_of(micros), day, "{micros}");
    }
    assert_eq!((day_text(-1).as_str(), day_text(20_589).as_str()), ("1969-12-31", "2026-05-16"));
}

#[test]
fn the_clock_that_was_never_set_ends_with_1970_and_begins_a_day_before_for_zones() {
    assert!(is_unset(-DAY + 1) && is_unset(YEAR_1971 - 1));
    assert!(!is_unset(-DAY) && !is_unset(YEAR_1971));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_shown_is_read_back(micros in -62_135_596_800_000_000_i64..253_402_300_799_999_999) {
        prop_assert_eq!(parse_rfc3339(&to_rfc3339(micros)), Some(micros));
        let utc = Offset::parse("Z");
        prop_assert_eq!(parse_written(&to_local_text(micros), utc), Ok(micros));
    }

    #[test]
    fn a_local_time_with_its_offset_is_the_same_moment(
        seconds in 0_i64..4_102_444_800,
        minutes in -1439_i64..=1439,
    ) {
        let local = to_local_text((seconds + minutes * 60) * SECOND);
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hour, minute) = (minutes.abs() / 60, minutes.abs() % 60);
        for offset in [format!("{sign}{hour:02}{minute:02}"), format!("{sign}{hour:02}:{minute:02}")] {
            for text in [format!("{local}{offset}"), format!(" {} {offset}\0", local.replace('T', " "))] {
                prop_assert_eq!(parse_written(&text, None), Ok(seconds * SECOND), "{}", text);
            }
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,40}", time in "[-+:.,TZ 0-9]{0,32}") {
        let _ = (parse_written(&text, None), parse_written(&time, Offset::parse("+02")));
    }
}
