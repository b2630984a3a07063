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
    /// A null in every cell but counts, which are 0.
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
            // Readings of other columns do not end what this column had last.
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
        // A gap of years in buckets of a second would fill the memory before the page is cut.
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
    fn a_count_is_zero_where_nothing_was_read_whatever_the_fill() {
        let buckets = Buckets::new(Interval::Fixed(10), chrono_tz::Tz::UTC).expect("regular");
        for fill in [Fill::Null, Fill::Previous, Fill::Linear] {
            let both = vec![Aggregate::Count, Aggregate::Max];
            let mut filler = Filler::new(buckets, fill, both, 0);
            filler.push(Row { start: 10, cells: vec![Some(5.0), Some(2.0)] }, 10);
            filler.push(Row { start: 30, cells: vec![Some(1.0), None] }, 10);
            filler.end(41, 10);
            let rows: Vec<Row> = std::iter::from_fn(|| filler.pop()).collect();
            let counts: Vec<_> = rows.iter().map(|row| row.cells[0]).collect();
            assert_eq!(counts, [0.0, 5.0, 0.0, 1.0, 0.0].map(Some), "{fill:?}");
            let filled = if fill == Fill::Previous { Some(2.0) } else { None };
            assert_eq!(rows[2].cells[1], filled, "no line leads to a bucket without a value");
            assert_eq!(rows[4].cells[1], filled);
            assert_eq!(rows[3].cells[1], None, "a row that was read stays as it is");
        }
    }

    #[test]
    fn nothing_is_filled_in_from_the_end_on() {
        let starts = |to| filled(Fill::Null, &[], to).into_iter().map(|r| r.0).collect::<Vec<_>>();
        // The history begins within the bucket that begins at 0.
        assert_eq!(starts(0), Vec::<i64>::new());
        assert_eq!(starts(1), [0]);
        assert_eq!(starts(20), [0, 10]);
        assert_eq!(starts(21), [0, 10, 20]);
    }

    #[test]
    fn buckets_of_a_day_are_filled_over_a_change_of_the_clocks() {
        let berlin = chrono_tz::Tz::Europe__Berlin;
        let buckets = Buckets::new(Interval::Days(1), berlin).expect("regular");
        let at = |text| acuvim_wire::time::parse_rfc3339(text).expect("a time");
        let from = at("2026-03-27T23:00:00Z");
        let mut filler = Filler::new(buckets, Fill::Null, vec![Aggregate::Avg], from);
        filler.end(at("2026-03-31T00:00:00Z"), 10);
        let starts: Vec<_> = std::iter::from_fn(|| filler.pop()).map(|row| row.start).collect();
        let wanted = [
            "2026-03-27T23:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
            "2026-03-30T22:00:00Z",
        ];
        assert_eq!(starts, wanted.map(at));
    }

    #[test]
    fn no_more_is_made_than_was_asked_for() {
        let buckets = Buckets::new(Interval::Fixed(1), chrono_tz::Tz::UTC).expect("regular");
        let mut filler = Filler::new(buckets, Fill::Null, vec![Aggregate::Avg], 0);
        filler.end(i64::MAX, 10);
        assert_eq!(std::iter::from_fn(|| filler.pop()).count(), 11);
    }
}
