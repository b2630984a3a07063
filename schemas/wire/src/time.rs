//! Times: the forms in which devices write them, and the one in which the system stores them.

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};

use crate::text::plain;

/// Microseconds since 1970-01-01T00:00:00Z, the resolution of every table.
pub type Micros = i64;

/// Microseconds in a second.
pub const SECOND: Micros = 1_000_000;

/// Microseconds in an hour.
pub const HOUR: Micros = 3600 * SECOND;

/// Microseconds in a minute.
pub const MINUTE: Micros = 60 * SECOND;

/// Microseconds in a day.
pub const DAY: Micros = 86_400 * SECOND;

/// 2020-01-01T00:00:00Z. No logger of this kind existed before, so an earlier time is a wrong clock.
pub const YEAR_2020: Micros = 1_577_836_800 * SECOND;

/// 1971-01-01T00:00:00Z. A clock that was never set starts in 1970.
const YEAR_1971: Micros = 365 * DAY;

/// What a time must look like, for error messages.
const EXPECTED: &str = "send RFC 3339 with its offset, such as 2026-05-16T17:05:32Z or \
    2026-05-16T19:05:32+0200, or Unix seconds or milliseconds";

/// Numbers from here on are milliseconds, smaller ones are seconds (1e11 s is the year 5138).
const MILLIS_FROM: f64 = 1e11;

/// Parses an RFC 3339 time. None without an offset, or outside the range of microseconds.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Micros> {
    DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_micros())
}

/// Why a time of a device can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// It has no offset from UTC, and so could be any time within a day.
    #[error("no time: {0:?} has no offset from UTC; {EXPECTED}")]
    NoOffset(String),
    /// It can't be parsed, or is ambiguous.
    #[error("no time: {0:?} can't be read; {EXPECTED}")]
    Unreadable(String),
    /// The number is out of the range of the calendar.
    #[error("no time: the number is beyond any calendar; {EXPECTED}")]
    Beyond,
}

/// Parses a time as devices write it: RFC 3339, or what C's strftime makes of ISO 8601, with offsets such as
/// `+0200` or `+02`, a blank instead of the `T`, or without separators. `unless` is the offset of times that
/// have none.
///
/// # Errors
/// What is wrong, and which form is expected.
pub fn parse_written(text: &str, unless: Option<Offset>) -> Result<Micros, BadTime> {
    let text = plain(text).unwrap_or_default();
    if let Some(micros) = parse_rfc3339(text) {
        return Ok(micros);
    }
    let shown = || text.chars().take(40).collect::<String>();
    let unreadable = || BadTime::Unreadable(shown());
    // chrono's own formats would also take `+2`, which may mean two hours or twenty.
    let (day, rest) = text.split_once(['T', 't', ' ']).ok_or_else(unreadable)?;
    let is_clock = |c: char| c.is_ascii_digit() || matches!(c, ':' | '.' | ',');
    let (clock, offset) = rest.split_at(rest.find(|c| !is_clock(c)).unwrap_or(rest.len()));
    let (day, clock) = day_of_text(day).zip(clock_of_text(clock)).ok_or_else(unreadable)?;
    let offset = match (plain(offset), unless) {
        (Some(offset), _) => Offset::parse(offset).ok_or_else(unreadable)?,
        (None, Some(offset)) => offset,
        (None, None) => return Err(BadTime::NoOffset(shown())),
    };
    let local = day.and_time(clock).and_utc().timestamp_micros();
    Ok(local - i64::from(offset.0) * SECOND)
}

/// Seconds east of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset(i32);

impl Offset {
    /// Parses `Z`, `UTC`, `+02:00`, `+0200` or `+02`; neither the ambiguous `+2` and `+200` nor names
    /// of zones.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if ["Z", "UTC", "GMT"].iter().any(|zero| text.eq_ignore_ascii_case(zero)) {
            return Some(Self(0));
        }
        let (sign, rest) = match text.split_at_checked(1)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        };
        let (hours, minutes) = match rest.len() {
            2 => (rest, "00"),
            4 => rest.split_at_checked(2)?,
            5 => rest.split_once(':')?,
            _ => return None,
        };
        let two = |digits: &str| {
            let both = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
            both.then(|| digits.parse::<i32>().ok()).flatten()
        };
        let (hours, minutes) = (two(hours)?, two(minutes)?);
        (hours < 24 && minutes < 60).then_some(Self(sign * (hours * 3600 + minutes * 60)))
    }
}

fn day_of_text(text: &str) -> Option<NaiveDate> {
    let form = match text.len() {
        10 => "%Y-%m-%d",
        8 => "%Y%m%d",
        _ => return None,
    };
    NaiveDate::parse_from_str(text, form).ok()
}

fn clock_of_text(text: &str) -> Option<NaiveTime> {
    let form = if text.contains(':') { "%H:%M:%S%.f" } else { "%H%M%S%.f" };
    let whole = text.split(['.', ',']).next().map_or(0, str::len);
    let fits = whole == if text.contains(':') { 8 } else { 6 };
    fits.then(|| NaiveTime::parse_from_str(&text.replace(',', "."), form).ok()).flatten()
}

/// Whether the clock was never set: the time is in 1970, in any time zone.
#[must_use]
pub const fn is_unset(ts: Micros) -> bool {
    -DAY < ts && ts < YEAR_1971
}

/// Converts Unix seconds or milliseconds, distinguished by their size.
#[must_use]
pub fn from_unix_number(number: f64) -> Option<Micros> {
    let factor = if number.abs() >= MILLIS_FROM { 1e3 } else { 1e6 };
    let micros = (number * factor).round();
    // chrono has no dates outside of this range.
    if micros.is_finite() && micros.abs() < 8.2e18 {
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        let micros = micros as i64;
        to_datetime(micros).map(|_| micros)
    } else {
        None
    }
}

/// The calendar time; none outside of the range of dates.
#[must_use]
pub fn to_datetime(micros: Micros) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}

/// RFC 3339 in UTC with milliseconds, or with microseconds if there are any: the form of times in all
/// answers, exact so that it can be used in another request.
#[must_use]
pub fn to_rfc3339(micros: Micros) -> String {
    let digits = if micros % 1000 == 0 { SecondsFormat::Millis } else { SecondsFormat::Micros };
    to_datetime(micros).map_or_else(String::new, |t| t.to_rfc3339_opts(digits, true))
}

/// The same for a local time: without the `Z`, which would mean UTC.
#[must_use]
pub fn to_local_text(micros: Micros) -> String {
    let mut text = to_rfc3339(micros);
    if text.ends_with('Z') {
        text.pop();
    }
    text
}

/// The UTC day of a time, as days since 1970-01-01: the value of a `date` column.
#[must_use]
pub fn day_of(micros: Micros) -> i32 {
    i32::try_from(micros.div_euclid(DAY)).unwrap_or(i32::MAX)
}

/// The value of a `date` column as `YYYY-MM-DD`.
#[must_use]
pub fn day_text(day: i32) -> String {
    NaiveDate::from_epoch_days(day).map_or_else(String::new, |d| d.to_string())
}

#[cfg(test)]
mod tests;
