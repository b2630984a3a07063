//! Follows the counters of a partition's devices, to find readings that can't be true. Late
//! readings are left out: what they change is recounted in the rollups.

use std::{collections::HashMap, sync::Arc};

use acuvim_lakehouse::{CountOutcome, Counter, MeterTerms, Meters, Reading, Track};
use acuvim_wire::{Micros, reading::READINGS, telemetry::Limits};
use arrow::{
    array::{Array as _, AsArray as _, Decimal128Array, RecordBatch},
    datatypes::Decimal128Type,
};

use crate::partition::decode::arrivals;

/// The counters of a partition's devices.
#[derive(Debug, Default)]
pub(super) struct Counters {
    devices: HashMap<Arc<str>, DeviceCounters>,
}

#[derive(Debug, Default)]
struct DeviceCounters {
    /// The time of the last reading.
    last: Micros,
    /// By the index of the counter's column. A list, because most meters send few counters.
    tracks: Vec<(usize, Track)>,
}

/// A reading of a counter that can't be true.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SuspectReading {
    pub device: Arc<str>,
    /// The name of the counter.
    pub counter: &'static str,
    pub reading: Reading,
    /// How many suspect readings there were in a row.
    pub times: u32,
}

/// The column of a counter.
struct Column<'a> {
    name: &'static str,
    counter: Counter,
    values: &'a Decimal128Array,
    factor: f64,
}

impl Counters {
    /// Follows new rows, and returns the readings that are suspect.
    pub fn follow(
        &mut self,
        rows: &RecordBatch,
        meters: &Meters,
        limits: &Limits,
    ) -> Vec<SuspectReading> {
        let columns = columns(rows);
        let mut suspects = Vec::new();
        if columns.is_empty() {
            return suspects;
        }
        for (row, (device, ts, received)) in arrivals(rows).enumerate() {
            if limits.is_ahead(ts, received) || columns.iter().all(|c| c.values.is_null(row)) {
                continue;
            }
            let id = match self.devices.get_key_value(device) {
                Some((id, _)) => Arc::clone(id),
                None => device.into(),
            };
            let counters = self.devices.entry(Arc::clone(&id)).or_default();
            // A counter that seems to fall because a reading is late is not suspect.
            if ts <= counters.last {
                continue;
            }
            counters.last = ts;
            let terms = meters.terms_of(device);
            for (at, column) in columns.iter().enumerate().filter(|(_, c)| c.values.is_valid(row)) {
                let reading = Reading { ts, value: column.value(row) };
                let told = counters.take(at, column, &terms, reading);
                if let Some(reading) = told.suspect {
                    let (device, times) = (Arc::clone(&id), told.suspects);
                    suspects.push(SuspectReading { device, counter: column.name, reading, times });
                }
            }
        }
        suspects
    }
}

impl DeviceCounters {
    fn take(
        &mut self,
        at: usize,
        column: &Column<'_>,
        terms: &MeterTerms,
        reading: Reading,
    ) -> CountOutcome {
        match self.tracks.iter_mut().find(|(counter, _)| *counter == at) {
            Some((_, track)) => track.take(column.counter, terms, reading),
            None => {
                let mut track = Track::default();
                let told = track.take(column.counter, terms, reading);
                self.tracks.push((at, track));
                told
            }
        }
    }
}

impl Column<'_> {
    #[expect(clippy::cast_precision_loss, reason = "readings have at most 15 digits")]
    fn value(&self, row: usize) -> f64 {
        self.values.value(row) as f64 / self.factor
    }
}

/// The columns of counters among the rows; a counter that no meter has sent has none.
fn columns(rows: &RecordBatch) -> Vec<Column<'_>> {
    let of = |r: &'static acuvim_wire::reading::Reading| {
        let counter = Counter::of(r.name)?;
        let values = rows.column_by_name(r.name)?.as_primitive_opt::<Decimal128Type>()?;
        let factor = 10_f64.powi(i32::from(r.scale));
        Some(Column { name: r.name, counter, values, factor })
    };
    READINGS.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests;
