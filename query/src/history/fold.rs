//! A device's readings, in order of time, folded into buckets. Pure.

use acuvim_lakehouse::{Buckets, Counter};
use acuvim_schemas::Micros;

/// What a bucket says of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Avg,
    Min,
    Max,
    Sum,
    Count,
    First,
    Last,
    Delta,
}

impl Aggregate {
    pub const ALL: [(&'static str, Self); 8] = [
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("sum", Self::Sum),
        ("count", Self::Count),
        ("first", Self::First),
        ("last", Self::Last),
        ("delta", Self::Delta),
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, of)| of)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, of)| *of == self).map_or("", |(name, _)| name)
    }
}

/// A column that is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its counter, if it is one.
    pub counter: Option<Counter>,
    /// Its digits behind the point: sums have no more.
    pub scale: u8,
}

/// A bucket: its beginning, and each column's aggregates in turn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub start: Micros,
    pub cells: Vec<Option<f64>>,
}

/// Folds readings into rows.
#[derive(Debug)]
pub(crate) struct Fold {
    buckets: Buckets,
    columns: Vec<Column>,
    aggregates: Vec<Aggregate>,
    /// When another meter was connected: its counters have nothing to do with those before.
    changes: Vec<Micros>,
    /// The time of the last reading, and each counter's last value.
    last: Option<Micros>,
    before: Vec<Option<f64>>,
    open: Option<Open>,
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

/// What the rollup says of a column in a quarter of an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rolled {
    pub count: u32,
    pub min: f64,
    pub max: f64,
    pub avg: f64,
    pub delta: Option<f64>,
    /// Where the counter stood.
    pub last: Option<f64>,
}

impl Fold {
    pub fn new(
        buckets: Buckets,
        columns: Vec<Column>,
        aggregates: Vec<Aggregate>,
        changes: Vec<Micros>,
    ) -> Self {
        let before = vec![None; columns.len()];
        Self { buckets, columns, aggregates, changes, last: None, before, open: None }
    }

    /// Learns of what was before the readings that are folded: the time of the last one, and of each
    /// column its last value and when that was; counters count on from it, unless the meter is another
    /// since.
    pub fn begin_behind(&mut self, last: Micros, values: &[Option<(Micros, f64)>]) {
        self.last = Some(last);
        for (before, value) in self.before.iter_mut().zip(values) {
            let same = |ts: Micros| !self.changes.iter().any(|at| ts < *at && *at <= last);
            *before = value.filter(|(ts, _)| same(*ts)).map(|(_, value)| value);
        }
    }

    /// Takes the next reading; answers with the bucket before if this one begins another. A time
    /// outside the calendar is in no bucket.
    pub fn push(&mut self, ts: Micros, values: impl Iterator<Item = Option<f64>>) -> Option<Row> {
        let done = self.enter(ts);
        self.part_meters(ts);
        if let Some(open) = &mut self.open {
            let cells = open.cells.iter_mut().zip(&self.columns).zip(&mut self.before);
            for (((cell, column), before), value) in cells.zip(values) {
                let Some(value) = value else { continue };
                if let (Some(counter), Some(before)) = (column.counter, *before) {
                    let counted = counter.increment(before, value);
                    cell.delta = Some(cell.delta.unwrap_or(0.0) + counted);
                } else if column.counter.is_some() {
                    cell.delta = cell.delta.or(Some(0.0));
                }
                cell.take(value);
                *before = Some(value);
            }
        }
        self.last = Some(ts);
        done
    }

    /// Takes the next quarter of an hour as the rollup has it, with the time of its last reading.
    pub fn push_rolled(
        &mut self,
        start: Micros,
        last_ts: Micros,
        cells: impl Iterator<Item = Rolled>,
    ) -> Option<Row> {
        let done = self.enter(start);
        self.part_meters(last_ts);
        if let Some(open) = &mut self.open {
            for ((cell, before), rolled) in open.cells.iter_mut().zip(&mut self.before).zip(cells) {
                cell.take_rolled(rolled);
                *before = rolled.last.or(*before);
            }
        }
        self.last = Some(last_ts);
        done
    }

    /// Opens the bucket of a time; answers with the one before if that is over.
    fn enter(&mut self, ts: Micros) -> Option<Row> {
        if self.open.as_ref().is_some_and(|open| ts < open.end) {
            return None;
        }
        let done = self.close();
        self.open = self.buckets.start(ts).map(|start| {
            let end = self.buckets.next(start).unwrap_or(Micros::MAX);
            Open { start, end, cells: vec![Cell::default(); self.columns.len()] }
        });
        done
    }

    /// The last bucket, if one is open.
    pub fn close(&mut self) -> Option<Row> {
        let open = self.open.take()?;
        let cells = open.cells.iter().zip(&self.columns);
        let cells = cells.flat_map(|(cell, column)| {
            self.aggregates.iter().map(move |aggregate| cell.of(*aggregate, *column))
        });
        Some(Row { start: open.start, cells: cells.collect() })
    }

    /// Forgets the counters of the meter before, if there was another since the last reading.
    fn part_meters(&mut self, ts: Micros) {
        let Some(last) = self.last else { return };
        let behind = self.changes.partition_point(|change| *change <= last);
        if self.changes.get(behind).is_some_and(|change| *change <= ts) {
            self.before.fill(None);
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

    /// The first and the last value stay unknown.
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

/// Without the noise of adding floats: decimals add up to decimals.
fn rounded(value: f64, scale: u8) -> f64 {
    let factor = 10_f64.powi(i32::from(scale));
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_lakehouse::Interval;
    use acuvim_schemas::time::SECOND;

    fn fold(aggregates: &[Aggregate], changes: &[Micros]) -> Fold {
        let buckets =
            Buckets::new(Interval::Fixed(60 * SECOND), chrono_tz::Tz::UTC).expect("regular");
        let column = Column { counter: Some(Counter::Total), scale: 2 };
        Fold::new(buckets, vec![column], aggregates.to_vec(), changes.to_vec())
    }

    fn run(fold: &mut Fold, readings: &[(i64, Option<f64>)]) -> Vec<(i64, Vec<Option<f64>>)> {
        let mut rows: Vec<Row> = readings
            .iter()
            .filter_map(|(ts, value)| fold.push(ts * SECOND, std::iter::once(*value)))
            .collect();
        rows.extend(fold.close());
        rows.into_iter().map(|row| (row.start / SECOND, row.cells)).collect()
    }

    #[test]
    fn buckets_say_what_was_in_them() {
        let every: Vec<Aggregate> = Aggregate::ALL.into_iter().map(|(_, of)| of).collect();
        let rows = run(
            &mut fold(&every, &[]),
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
        fold.begin_behind(-5 * SECOND, &[Some((-8 * SECOND, 7.0))]);
        let readings: Vec<_> = (0..20).map(|n| (n * 10, Some(10.0 + n as f64))).collect();
        let rows = run(&mut fold, &readings);
        let deltas: Vec<f64> = rows.iter().filter_map(|(_, cells)| cells[0]).collect();
        assert_eq!(deltas, [8.0, 6.0, 6.0, 2.0]);
        assert!((deltas.iter().sum::<f64>() - (29.0 - 7.0)).abs() < 1e-9);
    }

    #[test]
    fn quarters_and_readings_make_the_same_buckets() {
        let wanted = [Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Count];
        let every = [&wanted[..], &[Aggregate::Delta]].concat();
        let all = [(0, Some(1.0)), (10, Some(2.5)), (20, None), (65, Some(4.0)), (70, Some(7.0))];
        let readings = run(&mut fold(&every, &[]), &all);
        // The first bucket as two quarters, the second as readings behind them.
        let mut mixed = fold(&every, &[]);
        let rolled = |value: f64, delta: f64| Rolled {
            count: 1,
            min: value,
            max: value,
            avg: value,
            delta: Some(delta),
            last: Some(value),
        };
        assert_eq!(mixed.push_rolled(0, 5 * SECOND, std::iter::once(rolled(1.0, 0.0))), None);
        let second = std::iter::once(rolled(2.5, 1.5));
        assert_eq!(mixed.push_rolled(10 * SECOND, 20 * SECOND, second), None);
        assert_eq!(run(&mut mixed, &all[3..]), readings);
        // Another meter in between: what was read of it has nothing to do with what was rolled up.
        let mut parted = fold(&[Aggregate::Delta], &[60 * SECOND]);
        parted.push_rolled(0, 20 * SECOND, std::iter::once(rolled(2.5, 0.0)));
        assert_eq!(run(&mut parted, &all[3..])[1].1, [Some(3.0)]);
    }

    #[test]
    fn another_meter_has_counters_of_its_own() {
        let readings = [(0, Some(10.0)), (10, Some(12.0)), (20, Some(5000.0)), (30, Some(5001.0))];
        let rows = run(&mut fold(&[Aggregate::Delta], &[15 * SECOND]), &readings);
        assert_eq!(rows, [(0, vec![Some(3.0)])]);
        let rows = run(&mut fold(&[Aggregate::Delta], &[]), &readings);
        assert_eq!(rows, [(0, vec![Some(4991.0)])]);
        let mut fold = fold(&[Aggregate::Delta], &[-10 * SECOND]);
        fold.begin_behind(-5 * SECOND, &[Some((-20 * SECOND, 3.0))]);
        assert_eq!(run(&mut fold, &readings[..2]), [(0, vec![Some(2.0)])]);
    }
}
