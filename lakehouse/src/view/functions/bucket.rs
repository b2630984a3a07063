//! Buckets of time: fixed lengths, days and months, by the calendar of a time zone. Pure.
//!
//! A bucket begins where a clock on the wall of that zone shows a multiple of the interval, counted
//! from midnight of 1970-01-01 there (weeks from a Monday). When clocks are set back, the hour that
//! comes twice is two buckets; when they are set forward, a beginning that does not exist is the
//! moment of the change.

use acuvim_schemas::time::{DAY, HOUR, Micros, SECOND, to_datetime};
use chrono::{
    DateTime, Datelike as _, MappedLocalTime, Months, NaiveDate, NaiveDateTime, Offset as _,
    TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;

/// The length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// So many microseconds.
    Fixed(Micros),
    /// So many days of the calendar, whatever their hours.
    Days(i32),
    /// So many months of the calendar.
    Months(i32),
}

/// The Monday that weeks are counted from: 1970-01-05.
const MONDAY: i32 = 4;

/// The longest interval: a hundred years.
const MOST_DAYS: i64 = 36_525;

impl Interval {
    /// An interval of months, days and microseconds, of which one is positive and the others are
    /// nothing; none otherwise.
    #[must_use]
    pub fn new(months: i32, days: i32, micros: Micros) -> Option<Self> {
        match (months, days, micros) {
            (0, 0, 1..) if micros <= MOST_DAYS * DAY => Some(Self::Fixed(micros)),
            (0, 1.., 0) if i64::from(days) <= MOST_DAYS => Some(Self::Days(days)),
            (1..=1200, 0, 0) => Some(Self::Months(months)),
            _ => None,
        }
    }

    /// Reads `10s`, `5m`, `1h`, `1d`, `1w`, `1mo` or `1y`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let number: i32 = number.parse().ok()?;
        let fixed = |unit: Micros| Self::new(0, 0, i64::from(number).checked_mul(unit)?);
        match unit {
            "s" => fixed(SECOND),
            "m" | "min" => fixed(60 * SECOND),
            "h" => fixed(HOUR),
            "d" => Self::new(0, number, 0),
            "w" => Self::new(0, number.checked_mul(7)?, 0),
            "mo" => Self::new(number, 0, 0),
            "y" => Self::new(number.checked_mul(12)?, 0, 0),
            _ => None,
        }
    }
}

/// Buckets of one length in one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    interval: Interval,
    tz: Tz,
}

/// Why some intervals have no buckets in a time zone.
pub const IRREGULAR: &str =
    "with a time zone an interval divides half an hour, or is whole hours, days, months or years";

impl Buckets {
    /// Buckets, if each moment is in one of them in every zone: where clocks change, only lengths that
    /// divide half an hour, or are whole hours, follow each other.
    #[must_use]
    pub fn new(interval: Interval, tz: Tz) -> Option<Self> {
        let regular = match interval {
            Interval::Fixed(length) => {
                tz == Tz::UTC || (HOUR / 2) % length == 0 || length % HOUR == 0
            }
            Interval::Days(_) | Interval::Months(_) => true,
        };
        regular.then_some(Self { interval, tz })
    }

    /// Whose calendar they follow.
    #[must_use]
    pub const fn tz(&self) -> Tz {
        self.tz
    }

    /// Whether the buckets of a time, from one moment up to another, are made of whole parts of a
    /// length, such as those of UTC have.
    #[must_use]
    pub fn is_made_of(&self, part: Micros, from: Micros, to: Micros) -> bool {
        let regular = match self.interval {
            Interval::Fixed(length) => length % part == 0,
            Interval::Days(_) | Interval::Months(_) => true,
        };
        // Some zones were off by minutes and seconds before there was a standard time.
        let begins = |ts| self.start(ts).is_some_and(|start| start.rem_euclid(part) == 0);
        regular && begins(from) && begins(to)
    }

    /// The beginning of the bucket that a time lies in; none outside the calendar.
    #[must_use]
    pub fn start(&self, ts: Micros) -> Option<Micros> {
        if let (Interval::Fixed(length), Tz::UTC) = (self.interval, self.tz) {
            return ts.checked_sub(ts.rem_euclid(length));
        }
        let at = to_datetime(ts)?;
        let local = at.with_timezone(&self.tz).naive_local();
        let day = |date: NaiveDate| date.and_hms_opt(0, 0, 0);
        let start = match self.interval {
            Interval::Fixed(length) => {
                let wall = local.and_utc().timestamp_micros();
                to_datetime(wall.checked_sub(wall.rem_euclid(length))?)?.naive_utc()
            }
            Interval::Days(days) => {
                let first = if days % 7 == 0 { MONDAY } else { 0 };
                let now = local.date().to_epoch_days();
                day(NaiveDate::from_epoch_days(now - (now - first).rem_euclid(days))?)?
            }
            Interval::Months(months) => {
                let now = (local.year() - 1970) * 12 + i32::try_from(local.month0()).ok()?;
                let first = now - now.rem_euclid(months);
                let month = u32::try_from(first.rem_euclid(12)).ok()? + 1;
                day(NaiveDate::from_ymd_opt(1970 + first.div_euclid(12), month, 1)?)?
            }
        };
        self.moment(start, at)
    }

    /// The beginning of the bucket behind the one that begins at a time; none outside the calendar.
    #[must_use]
    pub fn next(&self, start: Micros) -> Option<Micros> {
        let guess = match self.interval {
            Interval::Fixed(length) => start.checked_add(length)?,
            Interval::Days(days) => {
                self.calendar(start, |date| date.checked_add_signed(TimeDelta::days(days.into())))?
            }
            Interval::Months(months) => self.calendar(start, |date| {
                date.checked_add_months(Months::new(months.unsigned_abs()))
            })?,
        };
        // Where clocks are set back a bucket is longer than its length, by a few hours at most.
        (0..=16).find_map(|quarters| {
            let next = self.start(guess.checked_add(quarters * HOUR / 4)?)?;
            (next > start).then_some(next)
        })
    }

    fn calendar(
        &self,
        start: Micros,
        step: impl Fn(NaiveDate) -> Option<NaiveDate>,
    ) -> Option<Micros> {
        let at = to_datetime(start)?;
        let local = at.with_timezone(&self.tz).naive_local();
        let next = step(local.date())?.and_hms_opt(0, 0, 0)?;
        self.moment(next, DateTime::<Utc>::MAX_UTC)
    }

    /// The moment at which a wall clock shows a time: of two the last that is not behind `at`; if it
    /// shows it never, the moment at which it was set forward over it.
    fn moment(&self, local: NaiveDateTime, at: DateTime<Utc>) -> Option<Micros> {
        let micros = |t: DateTime<Tz>| t.timestamp_micros();
        match self.tz.from_local_datetime(&local) {
            MappedLocalTime::Single(one) => Some(micros(one)),
            MappedLocalTime::Ambiguous(first, second) if second <= at => {
                // Only an hour comes twice as a whole; a day that begins twice begins once.
                let whole = matches!(self.interval, Interval::Fixed(length) if length <= HOUR);
                Some(micros(if whole { second } else { first }))
            }
            MappedLocalTime::Ambiguous(first, _) => Some(micros(first)),
            MappedLocalTime::None => {
                // With the offset from before the change the time lies behind it by as much as it
                // lies behind the change on the wall.
                let before = self.tz.offset_from_utc_datetime(&(local - TimeDelta::hours(24)));
                let moment = (local - before.fix()).and_utc();
                let over = (1..=180).find(|minutes| {
                    let earlier = local - TimeDelta::minutes(*minutes);
                    !matches!(self.tz.from_local_datetime(&earlier), MappedLocalTime::None)
                })?;
                Some((moment - TimeDelta::minutes(over - 1)).timestamp_micros())
            }
        }
    }
}

#[cfg(test)]
mod tests;
