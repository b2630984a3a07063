//! Filling buckets that have no readings. Pure.

use std::{collections::VecDeque, ops::Range};

use acuvim_lakehouse::Buckets;
use acuvim_wire::Micros;

use super::{aggregate::Aggregate, fold::Row};

/// The values of a bucket without readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Fill {
    /// There is no such row.
    #[default]
    None,
    /// Nulls.
    Null,
    /// The values of the bucket before.
    Previous,
    /// Values on a line between the buckets before and after; nulls before the first and after the last.
    Linear,
}

impl Fill {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "null" => Some(Self::Null),
            "previous" => Some(Self::Previous),
            "linear" => Some(Self::Linear),
            _ => None,
        }
    }
}

/// Puts rows between others.
#[derive(Debug)]
pub(super) struct Filler {
    buckets: Buckets,
    fill: Fill,
    /// The aggregate of each cell. A count is never null: it is 0 without readings.
    aggregates: Vec<Aggregate>,
    /// The beginning of the first bucket without a row yet.
    next: Option<Micros>,
    /// Rows are only filled in at these times.
    wanted: Range<Micros>,
    /// How many of the last rows are kept; none: all.
    keep: Option<usize>,
    /// The last value of each cell, and its bucket.
    last: Vec<Option<(Micros, f64)>>,
    made: VecDeque<Row>,
}

impl Filler {
    /// Fills from the bucket that a time is in.
    pub fn new(buckets: Buckets, fill: Fill, aggregates: Vec<Aggregate>, from: Micros) -> Self {
        let (next, last) = (buckets.start(from), vec![None; aggregates.len()]);
        let wanted = Micros::MIN..Micros::MAX;
        let made = VecDeque::new();
        Self { buckets, fill, aggregates, next, wanted, keep: None, last, made }
    }

    /// Fills no rows in before a time.
    pub fn wanted_from(mut self, from: Micros) -> Self {
        self.wanted.start = from;
        self
    }

    /// Fills no rows in from a time on, and keeps only the last rows.
    pub fn wanted_to(mut self, to: Micros, keep: usize) -> Self {
        self.wanted.end = to;
        self.keep = Some(keep);
        self
    }

    /// Takes the next row with readings, after filling in rows until more than `most` wait.
    pub fn push(&mut self, row: Row, most: usize) {
        self.up_to(row.start, Some(&row), most);
        self.next = self.buckets.next(row.start);
        for (last, value) in self.last.iter_mut().zip(&row.cells) {
            *last = value.map(|value| (row.start, value)).or(*last);
        }
        self.made.push_back(row);
    }

    /// Fills in up to the end of the history.
    pub fn end(&mut self, to: Micros, most: usize) {
        self.up_to(to, None, most);
    }

    /// The next row.
    pub fn pop(&mut self) -> Option<Row> {
        self.made.pop_front()
    }

    fn up_to(&mut self, end: Micros, after: Option<&Row>, most: usize) {
        if self.fill == Fill::None {
            return;
        }
        while let Some(start) = self.next.filter(|next| *next < end && self.made.len() <= most) {
            if self.wanted.contains(&start) {
                if self.keep.is_some_and(|keep| self.made.len() >= keep) {
                    self.made.pop_front();
                }
                let cells = (0..self.aggregates.len()).map(|n| self.cell(n, start, after));
                self.made.push_back(Row { start, cells: cells.collect() });
            }
            self.next = self.buckets.next(start);
        }
    }

    fn cell(&self, n: usize, start: Micros, after: Option<&Row>) -> Option<f64> {
        if self.aggregates.get(n) == Some(&Aggregate::Count) {
            return Some(0.0);
        }
        let last = self.last.get(n).copied().flatten();
        match self.fill {
            Fill::None | Fill::Null => None,
            Fill::Previous => last.map(|(_, value)| value),
            Fill::Linear => {
                let next = after.and_then(|row| Some((row.start, (*row.cells.get(n)?)?)));
                let ((from, a), (to, b)) = (last?, next?);
                let part = (start - from) as f64 / (to - from) as f64;
                Some(a + (b - a) * part)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_lakehouse::Interval;

    fn filled(fill: Fill, rows: &[(i64, f64)], to: i64) -> Vec<(i64, Option<f64>)> {
        let buckets = Buckets::new(Interval::Fixed(10), chrono_tz::Tz::UTC).expect("regular");
        let mut filler = Filler::new(buckets, fill, vec![Aggregate::Avg], 3);
        for (start, value) in rows {
            filler.push(Row { start: *start, cells: vec![Some(*value)] }, 100);
        }
        filler.end(to, 100);
        std::iter::from_fn(|| filler.pop()).map(|row| (row.start, row.cells[0])).collect()
    }

    #[test]
    fn gaps_are_filled_as_asked() {
        let rows = [(10, 1.0), (40, 4.0)];
        assert_eq!(filled(Fill::None, &rows, 60), [(10, Some(1.0)), (40, Some(4.0))]);
        let starts = |rows: &[(i64, Option<f64>)]| rows.iter().map(|r| r.0).collect::<Vec<_>>();
        let null = filled(Fill::Null, &rows, 60);
        assert_eq!(starts(&null), [0, 10, 20, 30, 40, 50]);
        assert_eq!(null.iter().filter(|r| r.1.is_some()).count(), 2);
        let values = |fill| filled(fill, &rows, 60).into_iter().map(|r| r.1).collect::<Vec<_>>();
        let (one, four) = (Some(1.0), Some(4.0));
        assert_eq!(values(Fill::Previous), [None, one, one, one, four, four]);
        assert_eq!(values(Fill::Linear), [None, one, Some(2.0), Some(3.0), four, None]);
    }

    #[test]
    fn a_page_far_behind_the_last_reading_is_whole() {
        let buckets = Buckets::new(Interval::Fixed(1), chrono_tz::Tz::UTC).expect("regular");
        let filler = Filler::new(buckets, Fill::Previous, vec![Aggregate::Avg], 0);
        let mut filler = filler.wanted_from(500);
        filler.push(Row { start: 0, cells: vec![Some(7.0)] }, 10);
        filler.end(505, 10);
        let rows: Vec<_> = std::iter::from_fn(|| filler.pop()).map(|row| row.start).collect();
        assert_eq!(rows, [0, 500, 501, 502, 503, 504]);
    }

    #[test]
    fn of_a_long_silence_only_the_end_is_kept() {
        let buckets = Buckets::new(Interval::Fixed(1), chrono_tz::Tz::UTC).expect("regular");
        let filler = Filler::new(buckets, Fill::Null, vec![Aggregate::Avg], 0);
        let mut filler = filler.wanted_to(900_000, 3);
        filler.end(1_000_000, usize::MAX - 1);
        let rows: Vec<_> = std::iter::from_fn(|| filler.pop()).map(|row| row.start).collect();
        assert_eq!(rows, [899_997, 899_998, 899_999]);
    }

    #[test]
    fn each_cell_remembers_its_own_last_value() {
        let buckets = Buckets::new(Interval::Fixed(1), chrono_tz::Tz::UTC).expect("regular");
        let both = vec![Aggregate::Avg, Aggregate::Avg];
        let mut filler = Filler::new(buckets, Fill::Previous, both, 0);
        filler.push(Row { start: 0, cells: vec![Some(1.0), Some(2.0)] }, 10);
        filler.push(Row { start: 1, cells: vec![Some(3.0), None] }, 10);
        filler.end(3, 10);
        let last = std::iter::from_fn(|| filler.pop()).last().expect("rows");
        assert_eq!(last.cells, [Some(3.0), Some(2.0)]);
    }

    #[test]
    fn no_more_is_made_than_was_asked_for() {
        let buckets = Buckets::new(Interval::Fixed(1), chrono_tz::Tz::UTC).expect("regular");
        let mut filler = Filler::new(buckets, Fill::Null, vec![Aggregate::Avg], 0);
        filler.end(i64::MAX, 10);
        assert_eq!(std::iter::from_fn(|| filler.pop()).count(), 11);
    }
}
