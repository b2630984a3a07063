//! Days of the site's calendar, added up from quarters.

use std::sync::Arc;

use acuvim_tables::{
    Table,
    rollup::{RollupColumn, Stat, columns},
};
use acuvim_wire::reading::READINGS;
use arrow::{
    array::{Array as _, AsArray as _, Int32Array, RecordBatch},
    datatypes::{Decimal128Type, Float64Type, Int32Type},
};
use futures::TryStreamExt as _;

use super::{
    bucket::{Bucket, counters, scaled},
    calendar::{LONGEST_DAY, Zones, days},
    carries::{carries, carry_columns},
    counting::Carry,
    keys::{BucketIndex, BucketKeys, retain_filled, spans},
    rows::BucketRows,
    sources::Selection,
    store::RollupStore,
};
use crate::{
    batch::{column, device_times},
    error::Error,
};

impl RollupStore {
    /// Computes days; none if none of them has a quarter. Keys without quarters are removed.
    pub(super) async fn compute_days(
        &self,
        keys: &mut BucketKeys,
        zones: &Zones,
    ) -> Result<Option<RecordBatch>, Error> {
        let snapshot = self.snapshot(Table::Rollup15m)?;
        let mut days = Days::new(keys, zones);
        let devices: Vec<&str> = keys.keys().map(|name| &**name).collect();
        let (carry, spans) = (carry_columns(), spans(keys, LONGEST_DAY));
        let mut names: Vec<&str> = carry.iter().map(String::as_str).collect();
        names.push("samples");
        names.extend(columns().iter().filter(|c| c.stat != Stat::Last).map(|c| c.name.as_str()));
        let selection = Selection {
            table: Table::Rollup15m,
            snapshot: &snapshot,
            devices: &devices,
            spans: &spans,
        };
        let mut rows = self.select(&selection, &names).await?;
        while let Some(batch) = rows.try_next().await? {
            days.add(&batch)?;
        }
        retain_filled(keys, &days.index, &days.buckets);
        days.rows()
    }
}

/// Days that are being added up.
struct Days<'a> {
    index: BucketIndex,
    buckets: Vec<Bucket>,
    /// The states of counters at the ends of the quarters of each day, in no particular order.
    ends: Vec<Vec<Carry>>,
    zones: &'a Zones,
}

impl<'a> Days<'a> {
    fn new(keys: &BucketKeys, zones: &'a Zones) -> Self {
        let index = BucketIndex::new(keys);
        let count = index.all.len();
        Self {
            index,
            buckets: vec![Bucket::default(); count],
            ends: vec![Vec::new(); count],
            zones,
        }
    }

    /// Adds stored quarters. Those of other days are ignored.
    fn add(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let days = self.days_of(rows)?;
        let samples = column(rows, "samples")?.as_primitive::<Int32Type>();
        for ((day, carry), samples) in days.iter().zip(carries(rows)?).zip(samples) {
            let Some(day) = *day else { continue };
            if let (Some(bucket), Some(ends)) = (self.buckets.get_mut(day), self.ends.get_mut(day))
            {
                bucket.samples += samples.unwrap_or(0);
                // Settings keep quarters at least as long as readings, so a day that a late reading
                // changes still has all of its quarters.
                ends.push(carry);
            }
        }
        for of in columns().iter().filter(|c| c.stat != Stat::Last) {
            self.add_column(rows, of, &days)?;
        }
        Ok(())
    }

    /// The index of the day of each row. It is looked up only when the device or the day changes.
    fn days_of(&self, rows: &RecordBatch) -> Result<Vec<Option<usize>>, Error> {
        let mut found = Vec::with_capacity(rows.num_rows());
        let (mut of, mut span, mut day) = ("", 0..0, None);
        for (device, ts) in device_times(std::slice::from_ref(rows))? {
            if device != of || !span.contains(&ts) {
                of = device;
                let calendar = days(self.zones.of(device));
                let around = calendar.and_then(|calendar| {
                    let start = calendar.start(ts)?;
                    Some(start..calendar.next(start)?)
                });
                span = around.unwrap_or(0..0);
                day = self.index.find(&self.index.of(device), span.start);
            }
            found.push(day.filter(|_| span.contains(&ts)));
        }
        Ok(found)
    }

    fn add_column(
        &mut self,
        rows: &RecordBatch,
        of: &RollupColumn,
        days: &[Option<usize>],
    ) -> Result<(), Error> {
        let values = column(rows, &of.name)?;
        let counts = counts_of(rows, of)?;
        for (row, day) in days.iter().enumerate().filter(|(row, _)| values.is_valid(*row)) {
            let bucket = day.and_then(|day| self.buckets.get_mut(day));
            let Some(cell) = bucket.and_then(|b| b.cells.get_mut(of.reading)) else { continue };
            let decimal = || scaled(values.as_primitive::<Decimal128Type>().value(row));
            match of.stat {
                Stat::Count => cell.count += counts.value(row),
                Stat::Suspect => cell.suspects += values.as_primitive::<Int32Type>().value(row),
                Stat::Min => cell.lower_min(decimal()),
                Stat::Max => cell.raise_max(decimal()),
                Stat::Avg => {
                    let avg = values.as_primitive::<Float64Type>().value(row);
                    cell.sum += avg * f64::from(counts.value(row)) * factor(of);
                }
                Stat::Delta => cell.delta = Some(cell.delta.unwrap_or(0) + decimal()),
                Stat::Last => {}
            }
        }
        Ok(())
    }

    fn rows(mut self) -> Result<Option<RecordBatch>, Error> {
        // Streams of several files deliver quarters in any order, while the last value of a counter
        // depends on it.
        for (bucket, ends) in self.buckets.iter_mut().zip(&mut self.ends) {
            ends.sort_by_key(|carry| carry.last_ts);
            let mut end = Carry::default();
            for carry in ends.iter() {
                end.pass(carry);
            }
            for ((at, _), track) in counters().zip(&end.tracks) {
                if let Some(cell) = bucket.cells.get_mut(at) {
                    cell.last = track.believed();
                }
            }
            (bucket.last_ts, bucket.serial) = (end.last_ts, end.serial);
        }
        let filled = || self.index.all.iter().zip(&self.buckets).filter(|(_, b)| b.samples > 0);
        let zone = |device: &Arc<str>| self.zones.of(device);
        let rows = BucketRows {
            table: Table::RollupDaily,
            keys: filled().map(|(key, _)| key).collect(),
            buckets: filled().map(|(_, bucket)| bucket).collect(),
            zones: Some(filled().map(|((device, _), _)| zone(device)).collect()),
        };
        rows.batch()
    }
}

/// The column with the number of values of the same reading, by which its mean is weighted.
fn counts_of<'a>(rows: &'a RecordBatch, of: &RollupColumn) -> Result<&'a Int32Array, Error> {
    let same = |c: &&RollupColumn| c.reading == of.reading && c.stat == Stat::Count;
    let name = columns().iter().find(same).map_or("", |c| c.name.as_str());
    Ok(column(rows, name)?.as_primitive::<Int32Type>())
}

fn factor(of: &RollupColumn) -> f64 {
    READINGS.get(of.reading).map_or(1.0, |r| 10_f64.powi(i32::from(r.scale)))
}
