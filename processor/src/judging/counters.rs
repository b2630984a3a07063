//! Follows the counters of a partition's devices as readings come, to tell of those that can't be.
//! Late readings are not followed: what they change is counted anew where it is stored.

use std::{collections::HashMap, sync::Arc};

use acuvim_lakehouse::{Counter, MeterTerms, Meters, Reading, Told, Track};
use acuvim_schemas::{Micros, reading::READINGS, telemetry::Limits};
use arrow::{
    array::{Array as _, AsArray as _, Decimal128Array, RecordBatch},
    datatypes::Decimal128Type,
};

use crate::decode::arrivals;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    devices: HashMap<Arc<str>, Followed>,
}

#[derive(Debug, Default)]
struct Followed {
    last: Micros,
    /// By the counter's place among those there are; most meters send few.
    tracks: Vec<(usize, Track)>,
}

/// A suspect reading of a counter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Suspect {
    pub device: Arc<str>,
    /// The reading's name.
    pub counter: &'static str,
    pub reading: Reading,
    /// How many in a row showed it.
    pub times: u32,
}

/// A counter's column.
struct Column<'a> {
    name: &'static str,
    counter: Counter,
    values: &'a Decimal128Array,
    factor: f64,
}

impl Counters {
    /// Follows new rows; answers with the readings that are suspect.
    pub fn follow(&mut self, rows: &RecordBatch, meters: &Meters, limits: &Limits) -> Vec<Suspect> {
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
            let followed = self.devices.entry(Arc::clone(&id)).or_default();
            if ts <= followed.last {
                continue;
            }
            followed.last = ts;
            let terms = meters.terms_of(device);
            for (at, column) in columns.iter().enumerate().filter(|(_, c)| c.values.is_valid(row)) {
                let reading = Reading { ts, value: column.value(row) };
                let told = followed.take(at, column, &terms, reading);
                if let Some(reading) = told.suspect {
                    let (device, times) = (Arc::clone(&id), told.suspects);
                    suspects.push(Suspect { device, counter: column.name, reading, times });
                }
            }
        }
        suspects
    }
}

impl Followed {
    fn take(
        &mut self,
        at: usize,
        column: &Column<'_>,
        terms: &MeterTerms,
        reading: Reading,
    ) -> Told {
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

/// The counters of rows; those that none has sent are left out.
fn columns(rows: &RecordBatch) -> Vec<Column<'_>> {
    let of = |r: &'static acuvim_schemas::reading::Reading| {
        let counter = Counter::of(r.name)?;
        let values = rows.column_by_name(r.name)?.as_primitive_opt::<Decimal128Type>()?;
        let factor = 10_f64.powi(i32::from(r.scale));
        Some(Column { name: r.name, counter, values, factor })
    };
    READINGS.iter().filter_map(of).collect()
}
