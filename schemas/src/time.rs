//! Times as devices write them and as the system keeps them.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

/// Microseconds since 1970-01-01T00:00:00Z, the resolution of every table.
pub type Micros = i64;

/// Microseconds in a second.
pub const SECOND: Micros = 1_000_000;

/// Microseconds in an hour.
pub const HOUR: Micros = 3600 * SECOND;

/// Microseconds in a day.
pub const DAY: Micros = 86_400 * SECOND;

/// 2020-01-01T00:00:00Z: no meter of this fleet can have measured anything before.
pub const YEAR_2020: Micros = 1_577_836_800 * SECOND;

/// From here on a number is milliseconds, below it is seconds (1e11 s is the year 5138).
const MILLIS_FROM: f64 = 1e11;

/// Reads an RFC 3339 time.
///
/// A time without zone, or outside what a timestamp of microseconds can hold, is none.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Micros> {
    DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_micros())
}

/// Reads Unix seconds or milliseconds, told apart by size.
#[must_use]
pub fn from_unix_number(number: f64) -> Option<Micros> {
    let factor = if number.abs() >= MILLIS_FROM { 1e3 } else { 1e6 };
    let micros = (number * factor).round();
    // Outside this range chrono has no calendar date for it.
    if micros.is_finite() && micros.abs() < 8.2e18 {
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        let micros = micros as i64;
        to_datetime(micros).map(|_| micros)
    } else {
        None
    }
}

/// The calendar time, where there is one.
#[must_use]
pub fn to_datetime(micros: Micros) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}

/// RFC 3339 in UTC with milliseconds, as every answer writes a time.
#[must_use]
pub fn to_rfc3339(micros: Micros) -> String {
    to_datetime(micros).map_or_else(String::new, |t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Days since 1970-01-01 of the UTC day that a time falls in: the value of a `date` column.
#[must_use]
pub fn day_of(micros: Micros) -> i32 {
    i32::try_from(micros.div_euclid(DAY)).unwrap_or(i32::MAX)
}

/// The calendar date of a `date` column's value, as `YYYY-MM-DD`.
#[must_use]
pub fn day_text(day: i32) -> String {
    NaiveDate::from_epoch_days(day).map_or_else(String::new, |d| d.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_mean_the_same_moment() {
        let t = parse_rfc3339("2026-05-16T17:05:32.250Z");
        assert_eq!(t, Some(1_778_951_132_250_000));
        assert_eq!(t, parse_rfc3339("2026-05-16T19:05:32.250+02:00"));
        assert_eq!(t, from_unix_number(1_778_951_132_250.0));
        assert_eq!(t, from_unix_number(1_778_951_132.25));
        assert_eq!(t.map(to_rfc3339).as_deref(), Some("2026-05-16T17:05:32.250Z"));
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
}
