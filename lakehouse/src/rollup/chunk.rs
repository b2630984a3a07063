//! Readings, in any order, into the buckets of a portion. Pure.

use acuvim_schemas::{reading::READINGS, time::Micros};
use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::{Decimal128Type, TimestampMicrosecondType},
};

use super::{
    fold::{Bucket, COUNTERS, Scaled, Stand, counters},
    keys::{Keys, Places, quarter_of},
};
use crate::{Error, writer::column};

/// The buckets of a portion, with what has been read of them.
#[derive(Debug)]
pub(super) struct Chunk {
    pub places: Places,
    pub buckets: Vec<Bucket>,
    /// Of each bucket where its counters stood, in no order.
    pub stands: Vec<Vec<Stand>>,
}

impl Chunk {
    pub fn new(keys: &Keys) -> Self {
        let places = Places::new(keys);
        let count = places.all.len();
        Self { places, buckets: vec![Bucket::default(); count], stands: vec![Vec::new(); count] }
    }

    /// Takes rows that have `device_id`, `ts` and every reading; those of other buckets are nothing
    /// to it.
    pub fn take(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let places = self.places_of(rows)?;
        for place in places.iter().flatten() {
            if let Some(bucket) = self.buckets.get_mut(*place) {
                bucket.samples += 1;
            }
        }
        for (at, reading) in READINGS.iter().enumerate() {
            self.take_reading(at, column(rows, reading.name)?, &places, reading.is_counter());
        }
        self.take_counters(rows, &places)
    }

    /// Whether one of some counters was read in a device's buckets.
    pub fn reads_any(&self, device: &str, some: &[bool; COUNTERS]) -> bool {
        let stands = self.stands.get(self.places.of(device)).into_iter().flatten().flatten();
        let read =
            |stand: &Stand| stand.values.iter().zip(some).any(|(v, some)| *some && v.is_some());
        stands.into_iter().any(read)
    }

    /// Where each row's bucket is.
    fn places_of(&self, rows: &RecordBatch) -> Result<Vec<Option<usize>>, Error> {
        let devices = column(rows, "device_id")?.as_string::<i32>();
        let times = column(rows, "ts")?.as_primitive::<TimestampMicrosecondType>().values();
        let (mut device, mut theirs) = ("", 0..0);
        let mut last: (Micros, Option<usize>) = (Micros::MIN, None);
        let mut places = Vec::with_capacity(rows.num_rows());
        for (name, ts) in devices.iter().flatten().zip(times) {
            let start = quarter_of(*ts);
            if name != device {
                (device, theirs) = (name, self.places.of(name));
                last = (Micros::MIN, None);
            }
            if last.0 != start {
                last = (start, self.places.find(&theirs, start));
            }
            places.push(last.1);
        }
        Ok(places)
    }

    fn take_reading(
        &mut self,
        at: usize,
        values: &arrow::array::ArrayRef,
        places: &[Option<usize>],
        counts_only: bool,
    ) {
        let values = values.as_primitive::<Decimal128Type>();
        if values.null_count() == values.len() {
            return;
        }
        for (row, place) in places.iter().enumerate() {
            let Some(place) = place.filter(|_| values.is_valid(row)) else { continue };
            let cell = self.buckets.get_mut(place).and_then(|b| b.cells.get_mut(at));
            let Some(cell) = cell else { continue };
            cell.count += 1;
            if counts_only {
                continue;
            }
            let value = scaled(values.value(row));
            cell.least(value);
            cell.greatest(value);
            #[expect(clippy::cast_precision_loss, reason = "readings have at most 14 digits")]
            let value = value as f64;
            cell.sum += value;
        }
    }

    fn take_counters(&mut self, rows: &RecordBatch, places: &[Option<usize>]) -> Result<(), Error> {
        let times = column(rows, "ts")?.as_primitive::<TimestampMicrosecondType>().values();
        let columns = counters()
            .map(|(_, reading)| Ok(column(rows, reading.name)?.as_primitive::<Decimal128Type>()))
            .collect::<Result<Vec<_>, Error>>()?;
        for (row, (place, ts)) in places.iter().zip(times).enumerate() {
            let Some(stands) = place.and_then(|place| self.stands.get_mut(place)) else { continue };
            let mut values = [None; COUNTERS];
            for (value, column) in values.iter_mut().zip(&columns) {
                *value = column.is_valid(row).then(|| scaled(column.value(row)));
            }
            stands.push(Stand { ts: *ts, values });
        }
        Ok(())
    }
}

/// A decimal of at most 18 digits.
pub(super) fn scaled(value: i128) -> Scaled {
    Scaled::try_from(value).unwrap_or(if value < 0 { Scaled::MIN } else { Scaled::MAX })
}
