//! Recomputes buckets of both tables, and then moves the offsets they cover.

use std::sync::Arc;

use acuvim_tables::Table;
use acuvim_wire::time::day_of;
use arrow::array::RecordBatch;

use super::{
    calendar::{Zones, local_days},
    keys::{BucketKeys, portions},
    replace::{Progress, Removed},
    store::RollupStore,
};
use crate::{delta::Snapshot, error::Error};

/// The number of buckets that are committed at a time. They are in memory until then.
const COMMIT_SIZE: usize = 50_000;

/// Computed buckets that are not committed yet. Only those with readings: if retention has dropped the
/// readings of a bucket, its stored row stays.
#[derive(Default)]
struct Pending {
    keys: BucketKeys,
    rows: Vec<RecordBatch>,
    buckets: usize,
}

impl Pending {
    fn add(&mut self, keys: BucketKeys, rows: Option<RecordBatch>) {
        let Some(rows) = rows else { return };
        self.buckets += rows.num_rows();
        self.rows.push(rows);
        for (device, starts) in keys {
            self.keys.entry(device).or_default().extend(starts);
        }
    }
}

impl RollupStore {
    /// Recomputes quarters, then their days, and only then moves the offsets. Returns the number
    /// of buckets. If this is interrupted, the next attempt repeats it with the same result.
    pub(super) async fn recompute(
        &self,
        telemetry: &Arc<Snapshot>,
        keys: BucketKeys,
        zones: &Zones,
        progress: Progress,
    ) -> Result<usize, Error> {
        // Buckets are committed before the offsets move, so that after a crash they are computed
        // again instead of being missed.
        let in_place = Progress::none(&progress.expected);
        let days_in_place = Progress::none(self.snapshot(Table::RollupDaily)?.covered());
        let mut buckets = 0;
        let mut quarters = BucketKeys::new();
        let mut pending = Pending::default();
        let mut day = None;
        for mut keys in portions(keys) {
            let next = keys.values().flatten().next().map(|start| day_of(*start));
            // Counters of a day continue from the day before, which must be committed by then.
            if pending.buckets >= COMMIT_SIZE || next != day {
                buckets += pending.buckets;
                self.put(Table::Rollup15m, &mut pending, &in_place, &mut quarters).await?;
            }
            day = next;
            let rows = self.compute_quarters(telemetry, &mut keys).await?;
            pending.add(keys, rows);
        }
        buckets += pending.buckets;
        self.put(Table::Rollup15m, &mut pending, &in_place, &mut quarters).await?;
        let mut days = BucketKeys::new();
        for mut keys in portions(local_days(&quarters, zones)) {
            let rows = self.compute_days(&mut keys, zones).await?;
            pending.add(keys, rows);
            if pending.buckets >= COMMIT_SIZE {
                buckets += pending.buckets;
                self.put(Table::RollupDaily, &mut pending, &days_in_place, &mut days).await?;
            }
        }
        buckets += pending.buckets;
        self.put(Table::RollupDaily, &mut pending, &days_in_place, &mut days).await?;
        self.move_to(&progress).await?;
        Ok(buckets)
    }

    /// Commits pending buckets, and adds their keys to those that changed.
    async fn put(
        &self,
        table: Table,
        pending: &mut Pending,
        in_place: &Progress,
        changed: &mut BucketKeys,
    ) -> Result<(), Error> {
        let Pending { keys, rows, .. } = std::mem::take(pending);
        if !rows.is_empty() {
            self.replace(table, &Removed::Keys(&keys), &rows, in_place).await?;
        }
        for (device, starts) in keys {
            changed.entry(device).or_default().extend(starts);
        }
        Ok(())
    }

    /// Moves the offsets of both tables. Days first, so that they never cover less than the quarters.
    pub(super) async fn move_to(&self, progress: &Progress) -> Result<(), Error> {
        if !progress.covered.is_empty() {
            let expected = self.snapshot(Table::RollupDaily)?.covered().clone();
            let covered = progress.covered.clone();
            let days = Progress { expected, covered, ..Progress::default() };
            self.replace(Table::RollupDaily, &Removed::Nothing, &[], &days).await?;
        }
        self.replace(Table::Rollup15m, &Removed::Nothing, &[], progress).await
    }
}
