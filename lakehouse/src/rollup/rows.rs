//! Converts buckets to rows of their table.

use std::sync::Arc;

use acuvim_tables::{
    Table,
    rollup::{RollupColumn, Stat, columns},
    timestamp,
};
use acuvim_wire::{
    reading::READINGS,
    time::{DAY, Micros, day_of, to_datetime},
};
use arrow::{
    array::{
        ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    compute::cast,
};
use chrono_tz::Tz;

use super::{
    bucket::{Bucket, Cell, Scaled},
    state::CounterState,
};
use crate::error::Error;

/// Buckets in the order of the table, with their devices and beginnings. Days have a time zone.
pub(super) struct BucketRows<'a> {
    pub table: Table,
    pub keys: Vec<&'a (Arc<str>, Micros)>,
    pub buckets: Vec<&'a Bucket>,
    pub zones: Option<Vec<Tz>>,
}

impl BucketRows<'_> {
    /// The rows; none if there are no buckets.
    pub fn batch(&self) -> Result<Option<RecordBatch>, Error> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let starts = || self.keys.iter().map(|(_, start)| *start);
        let mut all: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(self.keys.iter().map(|(device, _)| device))),
            times(starts().map(Some))?,
        ];
        if let Some(zones) = &self.zones {
            let days = starts().zip(zones).map(|(start, zone)| local_day(start, *zone));
            all.push(Arc::new(Date32Array::from_iter(days)));
            all.push(Arc::new(StringArray::from_iter_values(zones.iter().map(|z| z.name()))));
        }
        let buckets = || self.buckets.iter();
        all.push(Arc::new(Int32Array::from_iter_values(buckets().map(|b| b.samples))));
        all.push(times(buckets().map(|b| b.last_ts))?);
        all.push(Arc::new(StringArray::from_iter(buckets().map(|b| b.serial.as_deref()))));
        // Only quarters store the state of counters. Nothing continues from days.
        if self.zones.is_none() {
            let states = buckets().map(|bucket| CounterState::of(bucket));
            let states = states.map(|state| state.and_then(|s| serde_json::to_string(&s).ok()));
            all.push(Arc::new(StringArray::from_iter(states)));
        }
        for column in columns() {
            all.push(self.column(column)?);
        }
        // The partition column is the UTC date, also for local days.
        all.push(Arc::new(Date32Array::from_iter_values(starts().map(day_of))));
        Ok(Some(RecordBatch::try_new(self.table.schema(), all)?))
    }

    fn column(&self, column: &RollupColumn) -> Result<ArrayRef, Error> {
        let none = Cell::default();
        let cells = || self.buckets.iter().map(|b| b.cells.get(column.reading).unwrap_or(&none));
        let factor = READINGS.get(column.reading).map_or(1.0, |r| 10_f64.powi(i32::from(r.scale)));
        Ok(match column.stat {
            Stat::Count => Arc::new(Int32Array::from_iter_values(cells().map(|c| c.count))),
            Stat::Min => decimals(column, cells().map(|c| c.min))?,
            Stat::Max => decimals(column, cells().map(|c| c.max))?,
            Stat::Delta => decimals(column, cells().map(|c| c.delta))?,
            Stat::Last => {
                let reading = READINGS.get(column.reading);
                decimals(column, cells().map(|c| reading.and_then(|r| c.last_scaled(r))))?
            }
            Stat::Suspect => Arc::new(Int32Array::from_iter_values(cells().map(|c| c.suspects))),
            Stat::Avg => {
                let avg = |c: &Cell| (c.count > 0).then(|| c.sum / f64::from(c.count) / factor);
                Arc::new(Float64Array::from_iter(cells().map(avg)))
            }
        })
    }
}

fn decimals(
    column: &RollupColumn,
    values: impl Iterator<Item = Option<Scaled>>,
) -> Result<ArrayRef, Error> {
    let (precision, scale) =
        READINGS.get(column.reading).map_or((18, 0), |r| (r.precision, r.scale));
    let values: Decimal128Array = values.map(|value| value.map(i128::from)).collect();
    let scale = i8::try_from(scale).unwrap_or(i8::MAX);
    // The consumption of a day fits the digits of its counter.
    Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
}

fn times(values: impl Iterator<Item = Option<Micros>>) -> Result<ArrayRef, Error> {
    let values: TimestampMicrosecondArray = values.collect();
    Ok(cast(&values, &timestamp())?)
}

/// The local date of a time, in days since 1970-01-01.
fn local_day(start: Micros, zone: Tz) -> Option<i32> {
    let local = to_datetime(start)?.with_timezone(&zone).naive_local();
    i32::try_from(local.and_utc().timestamp_micros().div_euclid(DAY)).ok()
}

#[cfg(test)]
mod tests;
