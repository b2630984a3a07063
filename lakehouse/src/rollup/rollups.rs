//! The rollup tables, and the steps by which they follow `telemetry`.

use std::{sync::Arc, time::Instant};

use acuvim_tables::Table;
use acuvim_wire::time::Micros;

use super::{
    calendar::Zones,
    coverage::{Coverage, NotRolledUp, next_day},
    keys::BucketKeys,
    meter_changes,
    replace::{BUILT, Progress},
    rezone,
    store::RollupStore,
};
use crate::{
    delta::{Covered, Snapshot},
    error::Error,
    memory::Newest,
    view::Reader,
};

/// The most records of a partition that one step covers.
const MAX_RECORDS: i64 = 65_536;

/// The number of devices that are recomputed at a time.
const RECOUNTED_AT_ONCE: usize = 50;

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolledUp {
    /// The number of buckets that were computed, of both tables.
    pub buckets: usize,
    /// Whether there is more to do.
    pub more: bool,
}

/// The rollups of a lake.
#[derive(Debug)]
pub(crate) struct Rollups {
    store: RollupStore,
    coverage: Coverage,
    /// When meter changes were last looked up.
    meter_changes_at: tokio::sync::Mutex<Option<Instant>>,
}

impl Rollups {
    pub fn new(reader: Reader, newest: Newest) -> Self {
        Self {
            store: RollupStore { reader, newest },
            coverage: Coverage::default(),
            meter_changes_at: tokio::sync::Mutex::default(),
        }
    }

    /// Brings the rollups one step nearer to `telemetry`; none if there is nothing to do. Only one
    /// process may do this at a time.
    pub async fn step(&self, zones: &Zones) -> Result<Option<RolledUp>, Error> {
        if self.store.is_of_later_version()? {
            return Ok(None);
        }
        let telemetry = self.store.snapshot(Table::Telemetry)?;
        let expected = self.store.snapshot(Table::Rollup15m)?.covered().clone();
        let oldest = || telemetry.files.iter().map(|f| i64::from(f.date)).min();
        let Some(next_day) = next_day(&self.store).await? else {
            // From now on new readings are covered as they come. The days so far are built one by one.
            let progress = Progress {
                expected,
                covered: telemetry.covered().clone(),
                next_day: Some(oldest().unwrap_or(BUILT)),
                seen: Some(telemetry.version()),
            };
            self.store.move_to(&progress).await?;
            return Ok(Some(RolledUp { buckets: 0, more: true }));
        };
        // New readings first: somebody may be looking at today while years are being built.
        let fresh = self.follow(&telemetry, &expected, zones).await?;
        if next_day == BUILT {
            return Ok(fresh);
        }
        let Some(oldest) = oldest() else {
            // Retention has dropped all days that were to be built.
            return self.build_day(&telemetry, BUILT, zones).await.map(Some);
        };
        let built = self.build_day(&telemetry, next_day.max(oldest), zones).await?;
        let buckets = built.buckets + fresh.map_or(0, |fresh| fresh.buckets);
        Ok(Some(RolledUp { buckets, more: true }))
    }

    /// Recomputes the buckets of readings that are not covered yet; none if there are none.
    async fn follow(
        &self,
        telemetry: &Arc<Snapshot>,
        from: &Covered,
        zones: &Zones,
    ) -> Result<Option<RolledUp>, Error> {
        let at = |covered: &Covered, p: u32| covered.get(&p).copied().unwrap_or(0);
        let to = telemetry.covered().iter();
        // Bounded, so that a backlog is committed in steps and an interruption loses little.
        let to: Covered = to.map(|(p, to)| (*p, (*to).min(at(from, *p) + MAX_RECORDS))).collect();
        let complete = to == *telemetry.covered();
        let unseen = self.coverage.unseen(&self.store, telemetry).await?;
        let keys = self.store.quarters_between(&unseen, from, &to).await?;
        // Many records without readings move the offsets too, or every step would read them again.
        let far = to.iter().any(|(p, to)| to - at(from, *p) >= MAX_RECORDS);
        if keys.is_empty() && !far {
            return Ok(None);
        }
        let seen = complete.then(|| telemetry.version());
        let progress = Progress { expected: from.clone(), covered: to, next_day: None, seen };
        let buckets = self.store.recompute(telemetry, keys, zones, progress).await?;
        Ok(Some(RolledUp { buckets, more: !complete }))
    }

    /// Builds one day of history, or records that all of it is built.
    async fn build_day(
        &self,
        telemetry: &Arc<Snapshot>,
        day: i64,
        zones: &Zones,
    ) -> Result<RolledUp, Error> {
        let days = || telemetry.files.iter().map(|f| i64::from(f.date));
        let keys = match i32::try_from(day).ok().filter(|_| days().any(|d| d == day)) {
            Some(day) => self.store.quarters_on(telemetry, day).await?,
            None => BucketKeys::new(),
        };
        let next_day = Some(days().filter(|d| *d > day).min().unwrap_or(BUILT));
        let expected = self.store.snapshot(Table::Rollup15m)?.covered().clone();
        let progress = Progress { expected, next_day, ..Progress::default() };
        let buckets = self.store.recompute(telemetry, keys, zones, progress).await?;
        Ok(RolledUp { buckets, more: day != BUILT })
    }

    /// Recomputes all buckets of devices whose readings still exist, because the limits of their counters
    /// have changed.
    pub async fn recount(&self, devices: &[Arc<str>], zones: &Zones) -> Result<(), Error> {
        if devices.is_empty() || self.store.is_of_later_version()? {
            return Ok(());
        }
        let telemetry = self.store.snapshot(Table::Telemetry)?;
        let expected = self.store.snapshot(Table::Rollup15m)?.covered().clone();
        for some in devices.chunks(RECOUNTED_AT_ONCE) {
            let keys = self.store.quarters_of(some).await?;
            let in_place = Progress::none(&expected);
            self.store.recompute(&telemetry, keys, zones, in_place).await?;
        }
        Ok(())
    }

    /// Whether the rollups contain all readings that `telemetry` had when building them began.
    pub async fn are_built(&self) -> Result<bool, Error> {
        self.coverage.is_built(&self.store).await
    }

    /// Which readings of a device are in no rollup yet; none while history is being built.
    pub async fn not_rolled_up(&self, device_id: &str) -> Result<Option<NotRolledUp>, Error> {
        self.coverage.not_rolled_up(&self.store, device_id).await
    }

    /// A version of `telemetry` with only the files that can have readings beyond the rollups.
    pub async fn unseen(&self, telemetry: &Snapshot) -> Result<Arc<Snapshot>, Error> {
        self.coverage.unseen(&self.store, telemetry).await
    }

    /// Devices whose stored days were computed for another time zone than they have now.
    pub async fn devices_to_rezone(&self, zones: &Zones) -> Result<Vec<Arc<str>>, Error> {
        rezone::devices_to_rezone(&self.store, zones).await
    }

    /// Recomputes all days of devices.
    pub async fn rezone(&self, devices: &[Arc<str>], zones: &Zones) -> Result<(), Error> {
        rezone::rezone(&self.store, devices, zones).await
    }

    /// Looks up when meters were replaced, for `counter_delta`, unless that was done a moment ago. If it
    /// fails, what was known before stays.
    pub async fn refresh_meter_changes(&self, now: Micros) {
        let mut last = self.meter_changes_at.lock().await;
        if last.is_some_and(|at| at.elapsed() < meter_changes::FRESH) {
            return;
        }
        let begun = Instant::now();
        let found = match self.are_built().await {
            Ok(built) => meter_changes::find(&self.store.reader, built, now).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(changes) => {
                self.store.reader.engine.known_meters().set_changes(changes);
                // From the beginning of the search: heartbeats that came meanwhile may be missing
                // in it.
                *last = Some(begun);
            }
            Err(error) => tracing::debug!(%error, "meter changes are not refreshed"),
        }
    }
}

#[cfg(test)]
mod tests;
