//! Aggregates readings, in any order, into the quarters of a portion. Pure.

use acuvim_wire::{reading::READINGS, time::Micros};
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch},
    datatypes::Decimal128Type,
};

use super::{
    bucket::{Bucket, COUNTERS, counters, scaled},
    counting::CounterValues,
    keys::{BucketIndex, BucketKeys, quarter_of},
};
use crate::{
    batch::{column, times},
    error::Error,
};

/// The buckets of a portion with the readings so far.
#[derive(Debug)]
pub(super) struct Portion {
    pub index: BucketIndex,
    pub buckets: Vec<Bucket>,
    /// The counter values of each bucket, in no particular order.
    pub counters: Vec<Vec<CounterValues>>,
}

impl Portion {
    pub fn new(keys: &BucketKeys) -> Self {
        let index = BucketIndex::new(keys);
        let count = index.all.len();
        Self { index, buckets: vec![Bucket::default(); count], counters: vec![Vec::new(); count] }
    }

    /// Adds rows that have `device_id`, `ts` and every reading. Those of other buckets are ignored.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let buckets = self.buckets_of(rows)?;
        for at in buckets.iter().flatten() {
            if let Some(bucket) = self.buckets.get_mut(*at) {
                bucket.samples += 1;
            }
        }
        for (at, reading) in READINGS.iter().enumerate() {
            let values = column(rows, reading.name)?;
            match reading.is_counter() {
                true => self.count(at, values, &buckets),
                false => self.aggregate(at, values, &buckets),
            }
        }
        self.add_counters(rows, &buckets)
    }

    /// Whether one of some counters was read in a device's buckets.
    pub fn reads_any(&self, device: &str, some: &[bool; COUNTERS]) -> bool {
        let all = self.counters.get(self.index.of(device)).into_iter().flatten().flatten();
        let read =
            |of: &CounterValues| of.values.iter().zip(some).any(|(v, some)| *some && v.is_some());
        all.into_iter().any(read)
    }

    /// The index of the bucket of each row. Consecutive rows mostly have the same device and bucket, so
    /// both are looked up only when they change.
    fn buckets_of(&self, rows: &RecordBatch) -> Result<Vec<Option<usize>>, Error> {
        let devices = column(rows, "device_id")?.as_string::<i32>();
        let (mut device, mut theirs) = ("", 0..0);
        let mut last: (Micros, Option<usize>) = (Micros::MIN, None);
        let mut buckets = Vec::with_capacity(rows.num_rows());
        for (name, ts) in devices.iter().flatten().zip(times(rows, "ts")?) {
            let start = quarter_of(*ts);
            if name != device {
                (device, theirs) = (name, self.index.of(name));
                last = (Micros::MIN, None);
            }
            // `Micros::MIN` begins no quarter, so the first row is always looked up.
            if last.0 != start {
                last = (start, self.index.find(&theirs, start));
            }
            buckets.push(last.1);
        }
        Ok(buckets)
    }

    /// Counts the values of a counter, whose consumption is computed later.
    fn count(&mut self, reading: usize, values: &ArrayRef, buckets: &[Option<usize>]) {
        for (row, at) in buckets.iter().enumerate() {
            let Some(at) = at.filter(|_| values.is_valid(row)) else { continue };
            if let Some(cell) = self.buckets.get_mut(at).and_then(|b| b.cells.get_mut(reading)) {
                cell.count += 1;
            }
        }
    }

    fn aggregate(&mut self, reading: usize, values: &ArrayRef, buckets: &[Option<usize>]) {
        let values = values.as_primitive::<Decimal128Type>();
        // Most meters do not measure everything: whole columns are often null.
        if values.null_count() == values.len() {
            return;
        }
        for (row, at) in buckets.iter().enumerate() {
            let Some(at) = at.filter(|_| values.is_valid(row)) else { continue };
            let cell = self.buckets.get_mut(at).and_then(|b| b.cells.get_mut(reading));
            let Some(cell) = cell else { continue };
            cell.count += 1;
            let value = scaled(values.value(row));
            cell.lower_min(value);
            cell.raise_max(value);
            #[expect(clippy::cast_precision_loss, reason = "readings have at most 14 digits")]
            let value = value as f64;
            cell.sum += value;
        }
    }

    fn add_counters(&mut self, rows: &RecordBatch, buckets: &[Option<usize>]) -> Result<(), Error> {
        let columns = counters()
            .map(|(_, reading)| Ok(column(rows, reading.name)?.as_primitive::<Decimal128Type>()))
            .collect::<Result<Vec<_>, Error>>()?;
        for (row, (at, ts)) in buckets.iter().zip(times(rows, "ts")?).enumerate() {
            let Some(all) = at.and_then(|at| self.counters.get_mut(at)) else { continue };
            let mut values = [None; COUNTERS];
            for (value, column) in values.iter_mut().zip(&columns) {
                *value = column.is_valid(row).then(|| scaled(column.value(row)));
            }
            all.push(CounterValues { ts: *ts, values });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
