//! Rollups: `telemetry` by quarters of an hour, and those by days of the site's calendar, kept up as
//! readings come, late ones too.
//!
//! Like every table they say by offsets of the log what they cover. Readings beyond those name the
//! buckets that are made anew, each from all of its readings, and one commit puts them in the place of
//! what was there. A table that covers nothing yet is built day by day.

mod chunk;
mod columns;
mod daily;
mod fold;
mod keys;
mod quarter;
mod replace;
mod state;
mod stored;
mod unseen;
mod zones;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use acuvim_schemas::{
    tables::Table,
    time::{DAY, HOUR, Micros, day_of},
};
use arrow::array::RecordBatch;
use chrono_tz::Tz;

use crate::{Covered, Error, Lake, Snapshot, grow::is_of_later_version};
use keys::{Keys, chunks};
use replace::{Gone, Moves};
pub(crate) use stored::Serials;
pub use unseen::NotRolledUp;
pub(crate) use unseen::Seen;

/// A quarter of an hour: what all zones' days are made of.
pub const QUARTER: Micros = HOUR / 4;

/// How far from each other buckets are that may matter to another, as a rule. A counter that has not
/// been read for longer counts on from its device's newest bucket.
const LOOK_BACK: Micros = 7 * DAY;

/// Records of a partition that one step looks at.
const WINDOW: i64 = 65_536;

/// So many buckets are put in place at once, about: they are in memory until then.
const AT_ONCE: usize = 50_000;

/// Devices whose buckets are made anew at once.
const RECOUNTED: usize = 50;

/// The rollups have been made of every day.
const DONE: i64 = i64::MAX;

/// Whose days are whose calendar's: the time zone of each device; UTC for those that have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones(pub HashMap<Arc<str>, Tz>);

impl Zones {
    fn of(&self, device_id: &str) -> Tz {
        self.0.get(device_id).copied().unwrap_or(Tz::UTC)
    }
}

/// What a step of the rollups did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolledUp {
    /// Buckets made anew, of both tables.
    pub buckets: usize,
    /// Whether there was more to do than one step takes.
    pub more: bool,
}

impl Lake {
    /// Brings the rollups a step nearer to `telemetry`; none if there is nothing to do. Only one
    /// process may do this at a time.
    ///
    /// # Errors
    /// When the store fails, or another writer was faster: the next step does it again.
    pub async fn roll_up(&self, zones: &Zones) -> Result<Option<RolledUp>, Error> {
        if self.is_of_later_version()? {
            return Ok(None);
        }
        let telemetry = self.snapshot(Table::Telemetry)?;
        let expected = self.snapshot(Table::Rollup15m)?.covered().clone();
        let oldest = || telemetry.files.iter().map(|f| i64::from(f.date)).min();
        let Some(made) = self.days_made().await? else {
            // What comes from now on is covered as it comes; the days before are made one by one.
            let made = Some(oldest().unwrap_or(DONE));
            let covered = telemetry.covered().clone();
            let moves = Moves { expected, covered, made, seen: Some(telemetry.version()) };
            self.move_on(&moves).await?;
            return Ok(Some(RolledUp { buckets: 0, more: true }));
        };
        let fresh = self.catch_up_with(&telemetry, &expected, zones).await?;
        let Some(oldest) = oldest().filter(|_| made != DONE) else {
            return match made {
                DONE => Ok(fresh),
                // Nothing is left of what was to be made.
                _ => self.build_day(&telemetry, DONE, zones).await.map(Some),
            };
        };
        let built = self.build_day(&telemetry, made.max(oldest), zones).await?;
        let buckets = built.buckets + fresh.map_or(0, |fresh| fresh.buckets);
        Ok(Some(RolledUp { buckets, more: true }))
    }

    /// Whether the rollups are made of all that `telemetry` had when they were begun.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rollups_are_built(&self) -> Result<bool, Error> {
        if self.rolled_up.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let built = self.days_made().await? == Some(DONE);
        self.rolled_up.store(built, Ordering::Relaxed);
        Ok(built)
    }

    fn is_of_later_version(&self) -> Result<bool, Error> {
        for table in Table::ROLLUPS {
            if is_of_later_version(table, &*self.snapshot(table)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Up to which day all is made; none if nothing has been begun in this epoch of the log.
    async fn days_made(&self) -> Result<Option<i64>, Error> {
        self.table(Table::Rollup15m)?.transaction(&replace::made_id(self.epoch())).await
    }

    /// The buckets of readings beyond what is covered; none if there are none.
    async fn catch_up_with(
        &self,
        telemetry: &Arc<Snapshot>,
        from: &Covered,
        zones: &Zones,
    ) -> Result<Option<RolledUp>, Error> {
        let at = |covered: &Covered, p: u32| covered.get(&p).copied().unwrap_or(0);
        let to = telemetry.covered().iter();
        let to: Covered = to.map(|(p, to)| (*p, (*to).min(at(from, *p) + WINDOW))).collect();
        let whole = to == *telemetry.covered();
        let fresh = self.not_seen(telemetry).await?;
        let keys = self.touched(&fresh, from, &to).await?;
        let far = to.iter().any(|(p, to)| to - at(from, *p) >= WINDOW);
        if keys.is_empty() && !far {
            return Ok(None);
        }
        let seen = whole.then(|| telemetry.version());
        let moves = Moves { expected: from.clone(), covered: to, made: None, seen };
        let buckets = self.make(telemetry, keys, zones, moves).await?;
        Ok(Some(RolledUp { buckets, more: !whole }))
    }

    /// The next day, where not all are made.
    async fn build_day(
        &self,
        telemetry: &Arc<Snapshot>,
        day: i64,
        zones: &Zones,
    ) -> Result<RolledUp, Error> {
        let more = day != DONE;
        let days = || telemetry.files.iter().map(|f| i64::from(f.date));
        let keys = match i32::try_from(day).ok().filter(|_| days().any(|d| d == day)) {
            Some(day) => self.touched_on(telemetry, day).await?,
            None => Keys::new(),
        };
        let made = Some(days().filter(|d| *d > day).min().unwrap_or(DONE));
        let expected = self.snapshot(Table::Rollup15m)?.covered().clone();
        let moves = Moves { expected, covered: Covered::new(), made, seen: None };
        let buckets = self.make(telemetry, keys, zones, moves).await?;
        Ok(RolledUp { buckets, more })
    }

    /// Makes all buckets of devices anew of which the readings are still there: their counters can do
    /// something else than what they were counted by.
    ///
    /// # Errors
    /// As [`Lake::roll_up`].
    pub async fn recount(&self, devices: &[Arc<str>], zones: &Zones) -> Result<(), Error> {
        if devices.is_empty() || self.is_of_later_version()? {
            return Ok(());
        }
        let telemetry = self.snapshot(Table::Telemetry)?;
        let expected = self.snapshot(Table::Rollup15m)?.covered().clone();
        for some in devices.chunks(RECOUNTED) {
            let keys = self.quarters_of(some).await?;
            let stay = Moves { expected: expected.clone(), ..Moves::default() };
            self.make(&telemetry, keys, zones, stay).await?;
        }
        Ok(())
    }

    /// Makes quarters and then their days, and moves on behind both: what is broken off in between is
    /// done again.
    async fn make(
        &self,
        telemetry: &Arc<Snapshot>,
        keys: Keys,
        zones: &Zones,
        moves: Moves,
    ) -> Result<usize, Error> {
        let stay = Moves { expected: moves.expected.clone(), ..Moves::default() };
        let expected = self.snapshot(Table::RollupDaily)?.covered().clone();
        let stay_days = Moves { expected, ..Moves::default() };
        let mut buckets = 0;
        let mut changed = Keys::new();
        let mut made = Made::default();
        let mut day = None;
        for mut keys in chunks(keys) {
            // What a day counts on from must be in place before it.
            let next = keys.values().flatten().next().map(|start| day_of(*start));
            if made.buckets >= AT_ONCE || next != day {
                buckets += self.put(Table::Rollup15m, &mut made, &stay, &mut changed).await?;
            }
            day = next;
            let rows = self.make_quarters(telemetry, &mut keys).await?;
            made.add(keys, rows);
        }
        buckets += self.put(Table::Rollup15m, &mut made, &stay, &mut changed).await?;
        let mut days = Keys::new();
        for mut keys in chunks(daily::local_days(&changed, zones)) {
            let rows = self.make_days(&mut keys, zones).await?;
            made.add(keys, rows);
            if made.buckets >= AT_ONCE {
                buckets += self.put(Table::RollupDaily, &mut made, &stay_days, &mut days).await?;
            }
        }
        buckets += self.put(Table::RollupDaily, &mut made, &stay_days, &mut days).await?;
        self.move_on(&moves).await?;
        Ok(buckets)
    }

    /// Puts in place what was made, and notes what that was.
    async fn put(
        &self,
        table: Table,
        made: &mut Made,
        stay: &Moves,
        changed: &mut Keys,
    ) -> Result<usize, Error> {
        let Made { keys, rows, buckets } = std::mem::take(made);
        if !rows.is_empty() {
            self.replace(table, &Gone::Keys(&keys), &rows, stay).await?;
        }
        for (device, starts) in keys {
            changed.entry(device).or_default().extend(starts);
        }
        Ok(buckets)
    }

    /// Days first: they then cover no less than quarters do.
    async fn move_on(&self, moves: &Moves) -> Result<(), Error> {
        let days = self.snapshot(Table::RollupDaily)?.covered().clone();
        let ahead = Moves { expected: days, covered: moves.covered.clone(), ..Moves::default() };
        if !moves.covered.is_empty() {
            self.replace(Table::RollupDaily, &Gone::Nothing, &[], &ahead).await?;
        }
        self.replace(Table::Rollup15m, &Gone::Nothing, &[], moves).await
    }
}

/// Buckets that are not in place yet, and only those that have readings: what others were made of is
/// gone by right, and they stay.
#[derive(Default)]
struct Made {
    keys: Keys,
    rows: Vec<RecordBatch>,
    buckets: usize,
}

impl Made {
    fn add(&mut self, keys: Keys, rows: Option<RecordBatch>) {
        let Some(rows) = rows else { return };
        self.buckets += rows.num_rows();
        self.rows.push(rows);
        for (device, starts) in keys {
            self.keys.entry(device).or_default().extend(starts);
        }
    }
}
