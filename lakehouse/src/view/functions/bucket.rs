//! Buckets of time by the calendar of a time zone: fixed lengths, days and months. Pure.
//!
//! A bucket begins when the local time is a multiple of the interval, counted from midnight of
//! 1970-01-01 (weeks from a Monday). When clocks are set back, the repeated hour is two buckets. When
//! they are set forward, a bucket whose beginning is skipped begins at the moment of the change.

use acuvim_wire::time::{DAY, HOUR, Micros, SECOND, to_datetime};
use chrono::{
    DateTime, Datelike as _, MappedLocalTime, Months, NaiveDate, NaiveDateTime, Offset as _,
    TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;

/// The length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// A number of microseconds.
    Fixed(Micros),
    /// A number of calendar days, which can have 23 to 25 hours.
    Days(i32),
    /// A number of calendar months.
    Months(i32),
}

/// 1970-01-05, a Monday, as days since 1970-01-01.
const MONDAY: i32 = 4;

/// The longest interval, a hundred years, in days.
const MAX_DAYS: i64 = 36_525;

impl Interval {
    /// An interval of months, days or microseconds; none unless exactly one is positive and the others
    /// are zero.
    #[must_use]
    pub fn new(months: i32, days: i32, micros: Micros) -> Option<Self> {
        match (months, days, micros) {
            (0, 0, 1..) if micros <= MAX_DAYS * DAY => Some(Self::Fixed(micros)),
            (0, 1.., 0) if i64::from(days) <= MAX_DAYS => Some(Self::Days(days)),
            (1..=1200, 0, 0) => Some(Self::Months(months)),
            _ => None,
        }
    }

    /// Parses `10s`, `5m`, `1h`, `1d`, `1w`, `1mo` or `1y`.
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

/// Buckets of one length in one time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    interval: Interval,
    tz: Tz,
}

/// The message for intervals that have no buckets in a time zone.
pub const IRREGULAR: &str =
    "with a time zone an interval divides half an hour, or is whole hours, days, months or years";

impl Buckets {
    /// Buckets of a length that is regular in a time zone: where clocks change, fixed lengths must divide
    /// half an hour or be whole hours, otherwise some buckets would end before they begin.
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

    /// The time zone whose midnights and months they follow.
    #[must_use]
    pub const fn tz(&self) -> Tz {
        self.tz
    }

    /// Whether every bucket between two times consists of whole UTC buckets of the length `part`, so that
    /// it can be added up from them.
    #[must_use]
    pub fn is_made_of(&self, part: Micros, from: Micros, to: Micros) -> bool {
        let regular = match self.interval {
            Interval::Fixed(length) => length % part == 0,
            Interval::Days(_) | Interval::Months(_) => true,
        };
        // Before standard time some zones differed from UTC by odd minutes and seconds.
        let begins = |ts| self.start(ts).is_some_and(|start| start.rem_euclid(part) == 0);
        regular && begins(from) && begins(to)
    }

    /// The beginning of the bucket of a time; none outside the supported calendar.
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

    /// The beginning of the bucket after the one that begins at `start`; none outside the supported
    /// calendar.
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
        // Where clocks are set back, a bucket is up to a few hours longer than its interval.
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

    /// The moment of a local time. If it occurs twice, the last occurrence that is not after `at`. If it
    /// was skipped, the moment at which clocks were set forward over it.
    fn moment(&self, local: NaiveDateTime, at: DateTime<Utc>) -> Option<Micros> {
        let micros = |t: DateTime<Tz>| t.timestamp_micros();
        match self.tz.from_local_datetime(&local) {
            MappedLocalTime::Single(one) => Some(micros(one)),
            MappedLocalTime::Ambiguous(first, second) if second <= at => {
                // A repeated hour is two buckets. A longer bucket that begins in it begins only once.
                let whole = matches!(self.interval, Interval::Fixed(length) if length <= HOUR);
                Some(micros(if whole { second } else { first }))
            }
            MappedLocalTime::Ambiguous(first, _) => Some(micros(first)),
            MappedLocalTime::None => {
                // Read with the offset from before the change, the skipped time comes as many minutes
                // after the change as it is later than the first skipped minute. These are counted by
                // going back minute by minute to a local time that exists.
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
