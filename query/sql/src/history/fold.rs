//! Readings in order of time, folded into buckets. Pure.

use std::collections::VecDeque;

use acuvim_lakehouse::{Buckets, CountOutcome, MeterTerms, Reading, Track};
use acuvim_wire::Micros;

use super::aggregate::{Aggregate, Column};

/// Buckets that are over and wait, because a later reading might take back what they counted. A counter that
/// falls silent would otherwise keep all later buckets in memory.
const MOST_WAITING: usize = 1000;

/// A bucket: its beginning, and the aggregates of each column in turn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub start: Micros,
    pub cells: Vec<Option<f64>>,
}

/// The meter that the readings come from.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    /// Where its counters roll over, and how fast they can count.
    pub terms: MeterTerms,
    /// When another meter was connected, in order.
    pub changes: Vec<Micros>,
}

/// Readings before the history.
#[derive(Debug, Clone)]
pub(super) struct LastReadings {
    /// The time of the last reading.
    pub newest: Micros,
    /// Of each column its last few readings, the newest first.
    pub of_columns: Vec<Vec<Reading>>,
}

/// Folds readings into rows.
#[derive(Debug)]
pub(super) struct Fold {
    buckets: Buckets,
    columns: Vec<Column>,
    aggregates: Vec<Aggregate>,
    /// When another meter was connected, whose counters start anew.
    changes: Vec<Micros>,
    terms: MeterTerms,
    /// The time of the last reading.
    last: Option<Micros>,
    counts: Vec<Count>,
    open: Option<Open>,
    /// Buckets that are over, the oldest first.
    over: VecDeque<Open>,
}

/// How far a column's counter has come.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    track: Track,
    /// The bucket in which the last believed reading was counted, from which it may be taken back.
    counted_in: Option<Micros>,
}

#[derive(Debug)]
struct Open {
    start: Micros,
    /// The beginning of the next.
    end: Micros,
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    count: u32,
    sum: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
    delta: Option<f64>,
}

/// A column of the rollup in a quarter of an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rolled {
    pub count: u32,
    pub min: f64,
    pub max: f64,
    pub avg: f64,
    pub delta: Option<f64>,
}

impl Fold {
    pub fn new(
        buckets: Buckets,
        columns: Vec<Column>,
        aggregates: Vec<Aggregate>,
        meter: Meter,
    ) -> Self {
        let Meter { terms, changes } = meter;
        let counts = vec![Count::default(); columns.len()];
        let (open, over) = (None, VecDeque::new());
        Self { buckets, columns, aggregates, changes, terms, last: None, counts, open, over }
    }

    /// Counters continue from these readings, if they are of the same meter.
    pub fn begin_after(&mut self, before: &LastReadings) {
        self.last = Some(before.newest);
        let changed = self.changes.iter().rev().find(|at| **at <= before.newest).copied();
        let (columns, terms) = (&self.columns, &self.terms);
        let before = &before.of_columns;
        for ((count, column), before) in self.counts.iter_mut().zip(columns).zip(before) {
            *count = Count::default();
            let Some(counter) = column.counter else { continue };
            // Counters are followed in order of time, and the newest comes first here.
            for reading in before.iter().rev().filter(|r| changed.is_none_or(|at| r.ts >= at)) {
                count.track.take(counter, terms, *reading);
            }
        }
    }

    /// Counters begin anew: nothing was read before.
    pub fn begin(&mut self) {
        self.last = None;
        self.counts.fill(Count::default());
    }

    /// Takes the next reading. One whose time no calendar has is in no bucket.
    pub fn push(&mut self, ts: Micros, values: impl Iterator<Item = Option<f64>>) {
        self.enter(ts);
        self.part_meters(ts);
        for (at, value) in values.enumerate() {
            let Some(value) = value else { continue };
            let Some(start) = self.open.as_ref().map(|open| open.start) else { break };
            let told = self.count(at, Reading { ts, value });
            if let Some(cell) = self.open.as_mut().and_then(|open| open.cells.get_mut(at)) {
                cell.take(value);
                if let Some(told) = told {
                    cell.delta = Some(cell.delta.unwrap_or(0.0) + told.counted);
                }
            }
            if let Some(count) = self.counts.get_mut(at)
                && told.is_some_and(|told| told.believed)
            {
                count.counted_in = Some(start);
            }
        }
        self.last = Some(ts);
    }

    /// Takes a reading after the history. It is in no bucket itself, but may contradict the last readings.
    pub fn look_at(&mut self, ts: Micros, values: impl Iterator<Item = Option<f64>>) {
        self.part_meters(ts);
        for (at, value) in values.enumerate() {
            let Some(value) = value else { continue };
            let told = self.count(at, Reading { ts, value });
            if let Some(count) = self.counts.get_mut(at)
                && told.is_some_and(|told| told.believed)
            {
                count.counted_in = None;
            }
        }
        self.last = Some(ts);
    }

    /// Whether no later reading can take anything back.
    pub fn is_settled(&self) -> bool {
        self.counts.iter().all(|count| count.counted_in.is_none())
    }

    /// Counts a reading of a counter, and takes back from its bucket what the reading contradicts.
    fn count(&mut self, at: usize, reading: Reading) -> Option<CountOutcome> {
        if !self.aggregates.contains(&Aggregate::Delta) {
            return None;
        }
        let counter = self.columns.get(at)?.counter?;
        let count = self.counts.get_mut(at)?;
        let told = count.track.take(counter, &self.terms, reading);
        // A bucket that has waited for too long is answered already, and keeps what it counted.
        if let (Some(back), Some(start)) = (told.taken_back, count.counted_in) {
            let mut all = self.over.iter_mut().chain(&mut self.open);
            let cell = all.find(|open| open.start == start).and_then(|o| o.cells.get_mut(at));
            if let Some(cell) = cell {
                cell.delta = cell.delta.map(|delta| delta - back.counted);
            }
        }
        Some(told)
    }

    /// Takes the next quarter of an hour of the rollup, with the time of its last reading.
    pub fn push_rolled(
        &mut self,
        start: Micros,
        last_ts: Micros,
        cells: impl Iterator<Item = Rolled>,
    ) {
        self.enter(start);
        if let Some(open) = &mut self.open {
            open.cells.iter_mut().zip(cells).for_each(|(cell, rolled)| cell.take_rolled(rolled));
        }
        self.last = Some(last_ts);
    }

    /// Opens the bucket of a time, if it is not open.
    fn enter(&mut self, ts: Micros) {
        if self.open.as_ref().is_some_and(|open| ts < open.end) {
            return;
        }
        self.over.extend(self.open.take());
        self.open = self.buckets.start(ts).map(|start| {
            // The last bucket of the calendar has no next one.
            let end = self.buckets.next(start).unwrap_or(Micros::MAX);
            Open { start, end, cells: vec![Cell::default(); self.columns.len()] }
        });
    }

    /// The next bucket that is over and from which nothing can be taken back.
    pub fn pop(&mut self) -> Option<Row> {
        let start = self.over.front()?.start;
        let waits = self.counts.iter().any(|count| count.counted_in == Some(start));
        match waits && self.over.len() <= MOST_WAITING {
            true => None,
            false => self.over.pop_front().map(|over| self.row(&over)),
        }
    }

    /// The buckets that are left.
    pub fn finish(mut self) -> Vec<Row> {
        self.over.extend(self.open.take());
        self.over.iter().map(|over| self.row(over)).collect()
    }

    fn row(&self, over: &Open) -> Row {
        let cells = over.cells.iter().zip(&self.columns);
        let cells = cells.flat_map(|(cell, column)| {
            self.aggregates.iter().map(move |aggregate| cell.of(*aggregate, *column))
        });
        Row { start: over.start, cells: cells.collect() }
    }

    /// Lets counters start anew if another meter was connected since the last reading.
    fn part_meters(&mut self, ts: Micros) {
        let Some(last) = self.last else { return };
        // A change at the very time of a reading comes before that reading, which is the new meter's.
        let after = self.changes.partition_point(|change| *change <= last);
        if self.changes.get(after).is_some_and(|change| *change <= ts) {
            self.counts.fill(Count::default());
        }
    }
}

impl Cell {
    fn take(&mut self, value: f64) {
        if self.count == 0 {
            (self.first, self.min, self.max) = (value, value, value);
        }
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
    }

    /// The first and last values stay unknown: the rollup does not have them.
    fn take_rolled(&mut self, rolled: Rolled) {
        if let Some(delta) = rolled.delta {
            self.delta = Some(self.delta.unwrap_or(0.0) + delta);
        }
        if rolled.count == 0 {
            return;
        }
        if self.count == 0 {
            (self.min, self.max) = (rolled.min, rolled.max);
        }
        self.count += rolled.count;
        // Quarters have different numbers of readings: each average counts with its own.
        self.sum += rolled.avg * f64::from(rolled.count);
        self.min = self.min.min(rolled.min);
        self.max = self.max.max(rolled.max);
    }

    fn of(&self, aggregate: Aggregate, column: Column) -> Option<f64> {
        if aggregate == Aggregate::Count {
            return Some(f64::from(self.count));
        }
        if self.count == 0 {
            return None;
        }
        Some(match aggregate {
            Aggregate::Avg => self.sum / f64::from(self.count),
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Sum => rounded(self.sum, column.scale),
            Aggregate::Count => f64::from(self.count),
            Aggregate::First => self.first,
            Aggregate::Last => self.last,
            Aggregate::Delta => rounded(self.delta?, column.scale),
        })
    }
}

/// Rounded to the scale of the decimals: adding floats leaves noise in further digits.
fn rounded(value: f64, scale: u8) -> f64 {
    let factor = 10_f64.powi(i32::from(scale));
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests;
