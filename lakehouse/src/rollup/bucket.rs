//! A bucket of a rollup: what is known of each reading within it. Pure.

use std::sync::Arc;

use acuvim_wire::{
    reading::{READINGS, Reading as Column},
    time::Micros,
};

use crate::counter::{CountOutcome, Doubt, Reading, TakenBack};

/// The number of readings that are counters.
pub(super) const COUNTERS: usize = 9;

/// A value as the tables store it: a decimal without its point.
pub(super) type Scaled = i64;

/// What a bucket says of one reading.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cell {
    pub count: i32,
    pub min: Option<Scaled>,
    pub max: Option<Scaled>,
    /// The sum of the scaled values.
    pub sum: f64,
    /// The consumption that a counter shows.
    pub delta: Option<Scaled>,
    /// The reading that a counter counts from at the end of the bucket, see [`crate::Track`].
    pub last: Option<Reading>,
    pub seen: Micros,
    pub doubt: Option<Doubt>,
    /// The number of suspect readings that were found.
    pub suspects: i32,
}

impl Cell {
    /// Lowers the minimum to a value.
    pub fn lower_min(&mut self, value: Scaled) {
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
    }

    /// Raises the maximum to a value.
    pub fn raise_max(&mut self, value: Scaled) {
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
    }

    /// Adds what a reading of a counter has shown.
    pub fn add(&mut self, column: &Column, outcome: &CountOutcome) {
        self.delta = Some(self.delta.unwrap_or(0) + as_stored(column, outcome.counted));
        self.suspects += i32::try_from(outcome.suspects).unwrap_or(i32::MAX);
    }

    /// Removes the consumption up to a suspect reading.
    pub fn take_back(&mut self, column: &Column, back: &TakenBack) {
        self.delta = self.delta.map(|delta| delta - as_stored(column, back.counted));
        // Without a last value the meter was replaced after the suspect reading, and the reading
        // before it must not come back as the last one of the new meter.
        if self.last.is_some() {
            (self.last, self.seen) = (Some(back.stood), back.stood.ts);
        }
    }

    /// The last value of a counter as it is stored.
    pub fn last_scaled(&self, column: &Column) -> Option<Scaled> {
        self.last.map(|at| as_stored(column, at.value))
    }
}

/// A bucket of one device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bucket {
    pub samples: i32,
    pub last_ts: Option<Micros>,
    pub serial: Option<Arc<str>>,
    /// One for each of [`READINGS`].
    pub cells: Vec<Cell>,
}

impl Default for Bucket {
    fn default() -> Self {
        let cells = vec![Cell::default(); READINGS.len()];
        Self { samples: 0, last_ts: None, serial: None, cells }
    }
}

/// The readings that are counters, in the order of [`READINGS`], with their indexes there.
pub(super) fn counters() -> impl Iterator<Item = (usize, &'static Column)> {
    READINGS.iter().enumerate().filter(|(_, r)| r.is_counter())
}

/// A decimal of at most 18 digits, without its point.
pub(super) fn scaled(value: i128) -> Scaled {
    // Readings have at most 14 digits, so only a damaged file has more.
    Scaled::try_from(value).unwrap_or(if value < 0 { Scaled::MIN } else { Scaled::MAX })
}

/// A stored value in its unit.
#[expect(clippy::cast_precision_loss, reason = "readings have at most 14 digits")]
pub(super) fn as_float(column: &Column, value: Scaled) -> f64 {
    value as f64 / 10_f64.powi(i32::from(column.scale))
}

#[expect(clippy::cast_possible_truncation, reason = "readings have at most 14 digits")]
fn as_stored(column: &Column, value: f64) -> Scaled {
    (value * 10_f64.powi(i32::from(column.scale))).round() as Scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_counters() {
        assert_eq!(counters().count(), COUNTERS);
    }
}
