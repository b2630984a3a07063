//! Readings in order of time, folded into buckets. Pure.

use std::collections::VecDeque;

use acuvim_lakehouse::{Buckets, MeterTerms, Reading, Told, Track};
use acuvim_schemas::Micros;

use super::aggregate::{Aggregate, Column};

/// Buckets that are over and wait, because a later reading might take back what they counted.
const MOST_WAITING: usize = 1000;

/// A bucket: its beginning, and the aggregates of each column in turn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub start: Micros,
    pub cells: Vec<Option<f64>>,
}

/// The meter behind the readings.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    /// What its counters can show.
    pub terms: MeterTerms,
    /// When another meter was connected, in order.
    pub changes: Vec<Micros>,
}

/// What was read before a history begins.
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

    /// Counters go on counting from these readings, as far as they are of the same meter.
    pub fn begin_behind(&mut self, before: &LastReadings) {
        self.last = Some(before.newest);
        let changed = self.changes.iter().rev().find(|at| **at <= before.newest).copied();
        let (columns, terms) = (&self.columns, &self.terms);
        let before = &before.of_columns;
        for ((count, column), before) in self.counts.iter_mut().zip(columns).zip(before) {
            *count = Count::default();
            let Some(counter) = column.counter else { continue };
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

    /// Takes a reading behind the history. It is in no bucket itself, but may contradict the last readings.
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
    fn count(&mut self, at: usize, reading: Reading) -> Option<Told> {
        if !self.aggregates.contains(&Aggregate::Delta) {
            return None;
        }
        let counter = self.columns.get(at)?.counter?;
        let count = self.counts.get_mut(at)?;
        let told = count.track.take(counter, &self.terms, reading);
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
        let behind = self.changes.partition_point(|change| *change <= last);
        if self.changes.get(behind).is_some_and(|change| *change <= ts) {
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

/// Rounded to the scale of the decimals: adding floats leaves noise behind it.
fn rounded(value: f64, scale: u8) -> f64 {
    let factor = 10_f64.powi(i32::from(scale));
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_lakehouse::{Counter, Interval};
    use acuvim_schemas::time::SECOND;

    fn before(newest: Micros, readings: Vec<Reading>) -> LastReadings {
        LastReadings { newest, of_columns: vec![readings] }
    }

    fn fold(aggregates: &[Aggregate], changes: &[Micros]) -> Fold {
        let buckets =
            Buckets::new(Interval::Fixed(60 * SECOND), chrono_tz::Tz::UTC).expect("regular");
        let column = Column { counter: Some(Counter::Total), scale: 2 };
        let meter = Meter { changes: changes.to_vec(), ..Meter::default() };
        Fold::new(buckets, vec![column], aggregates.to_vec(), meter)
    }

    fn run(mut fold: Fold, readings: &[(i64, Option<f64>)]) -> Vec<(i64, Vec<Option<f64>>)> {
        let mut rows = Vec::new();
        for (ts, value) in readings {
            fold.push(ts * SECOND, std::iter::once(*value));
            rows.extend(std::iter::from_fn(|| fold.pop()));
        }
        rows.extend(fold.finish());
        rows.into_iter().map(|row| (row.start / SECOND, row.cells)).collect()
    }

    fn reading(at: i64, value: f64) -> Reading {
        Reading { ts: at * SECOND, value }
    }

    #[test]
    fn buckets_say_what_was_in_them() {
        let every: Vec<Aggregate> = Aggregate::ALL.into_iter().map(|(_, of)| of).collect();
        let rows = run(
            fold(&every, &[]),
            &[(0, Some(1.1)), (10, None), (20, Some(2.2)), (65, Some(0.5)), (130, None)],
        );
        let cells = |text: [f64; 8]| text.map(Some).to_vec();
        let Some((0, first)) = rows.first() else { panic!("{rows:?}") };
        assert!((first[0].unwrap_or(0.0) - 1.65).abs() < 1e-9);
        assert_eq!(first[1..], cells([1.65, 1.1, 2.2, 3.3, 2.0, 1.1, 2.2, 1.1])[1..]);
        // The counter fell: a reset, which counts nothing.
        assert_eq!(rows[1], (60, cells([0.5, 0.5, 0.5, 0.5, 1.0, 0.5, 0.5, 0.0])));
        let nothing = vec![None, None, None, None, Some(0.0), None, None, None];
        assert_eq!(rows[2], (120, nothing));
    }

    #[test]
    fn what_is_counted_between_buckets_is_the_later_ones() {
        let mut fold = fold(&[Aggregate::Delta], &[]);
        fold.begin_behind(&before(-5 * SECOND, vec![reading(-8, 7.0)]));
        let readings: Vec<_> = (0..20).map(|n| (n * 10, Some(10.0 + n as f64))).collect();
        let rows = run(fold, &readings);
        let deltas: Vec<f64> = rows.iter().filter_map(|(_, cells)| cells[0]).collect();
        assert_eq!(deltas, [8.0, 6.0, 6.0, 2.0]);
        assert!((deltas.iter().sum::<f64>() - (29.0 - 7.0)).abs() < 1e-9);
    }

    #[test]
    fn a_jump_at_the_edge_of_a_bucket_counts_nothing() {
        let readings = [(0, 100.0), (50, 100.1), (59, 150.0), (60, 100.2), (70, 100.3)];
        let readings = readings.map(|(at, value)| (at, Some(value)));
        let rows = run(fold(&[Aggregate::Delta], &[]), &readings);
        assert_eq!(rows, [(0, vec![Some(0.1)]), (60, vec![Some(0.2)])]);
        // What comes behind the last of them says that of the last bucket.
        let mut cut = fold(&[Aggregate::Delta], &[]);
        for (at, value) in &readings[..3] {
            cut.push(at * SECOND, std::iter::once(*value));
        }
        assert!(!cut.is_settled());
        cut.look_at(60 * SECOND, std::iter::once(Some(0.0)));
        assert!(!cut.is_settled(), "a reset, or one of those");
        cut.look_at(70 * SECOND, std::iter::once(Some(100.3)));
        assert!(cut.is_settled());
        assert_eq!(cut.finish()[0].cells, [Some(0.1)]);
        // A jump that is looked back at is none to count on from.
        let mut behind = fold(&[Aggregate::Delta], &[]);
        let before = [reading(-1, 41_746_432.0), reading(-10, 100.1), reading(-20, 100.0)];
        behind.begin_behind(&LastReadings { newest: -SECOND, of_columns: vec![before.to_vec()] });
        assert_eq!(run(behind, &[(0, Some(100.2))]), [(0, vec![Some(0.1)])]);
    }

    #[test]
    fn quarters_and_readings_make_the_same_buckets() {
        let wanted = [Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Count];
        let every = [&wanted[..], &[Aggregate::Delta]].concat();
        let all = [(0, Some(1.0)), (10, Some(2.5)), (20, None), (65, Some(4.0)), (70, Some(7.0))];
        let readings = run(fold(&every, &[]), &all);
        // The first bucket as two quarters, the second as readings behind them.
        let mut mixed = fold(&every, &[]);
        let rolled = |value: f64, delta: f64| Rolled {
            count: 1,
            min: value,
            max: value,
            avg: value,
            delta: Some(delta),
        };
        mixed.push_rolled(0, 5 * SECOND, std::iter::once(rolled(1.0, 0.0)));
        mixed.push_rolled(10 * SECOND, 20 * SECOND, std::iter::once(rolled(2.5, 1.5)));
        mixed.begin_behind(&before(20 * SECOND, vec![reading(10, 2.5), reading(0, 1.0)]));
        assert_eq!(run(mixed, &all[3..]), readings);
        // Another meter in between: what was read of it has nothing to do with what was rolled up.
        let mut parted = fold(&[Aggregate::Delta], &[60 * SECOND]);
        parted.push_rolled(0, 20 * SECOND, std::iter::once(rolled(2.5, 0.0)));
        parted.begin_behind(&before(20 * SECOND, vec![reading(10, 2.5)]));
        assert_eq!(run(parted, &all[3..])[1].1, [Some(3.0)]);
    }

    #[test]
    fn another_meter_has_counters_of_its_own() {
        let readings = [(0, Some(10.0)), (10, Some(12.0)), (20, Some(900.0)), (30, Some(901.0))];
        let rows = run(fold(&[Aggregate::Delta], &[15 * SECOND]), &readings);
        assert_eq!(rows, [(0, vec![Some(3.0)])]);
        let rows = run(fold(&[Aggregate::Delta], &[]), &readings);
        assert_eq!(rows, [(0, vec![Some(891.0)])]);
        let mut fold = fold(&[Aggregate::Delta], &[-10 * SECOND]);
        fold.begin_behind(&before(-5 * SECOND, vec![reading(-20, 3.0)]));
        assert_eq!(run(fold, &readings[..2]), [(0, vec![Some(2.0)])]);
    }
}
