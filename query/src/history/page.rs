//! The rows of a page of buckets, and where the next page begins. Pure.

use std::collections::VecDeque;

use acuvim_schemas::{Micros, time::to_rfc3339};
use serde_json::Value;

use super::{
    ask::{Cursor, Order},
    fill::{Fill, Filler},
    fold::{Aggregate, Row},
    read::{Buckets, Page, PageRows},
};

/// The rows that are answered.
pub(super) struct Answer<'a> {
    of: &'a Buckets,
    filler: Filler,
    rows: VecDeque<Row>,
    /// Of each cell the last bucket before the page's end that has readings.
    seen: Vec<Option<Micros>>,
}

impl<'a> Answer<'a> {
    pub fn new(of: &'a Buckets, from: Micros) -> Self {
        let filler = Filler::new(of.buckets, of.fill, of.cells(), from);
        let filler = match (of.asked.cursor.map(|cursor| cursor.at), of.asked.order) {
            (None, Order::Ascending) => filler,
            (Some(at), Order::Ascending) => filler.wanted_from(at),
            (at, Order::Descending) => {
                filler.wanted_to(at.unwrap_or(Micros::MAX), of.asked.limit + 1)
            }
        };
        Self { of, filler, rows: VecDeque::new(), seen: vec![None; of.cells().len()] }
    }

    fn most(&self) -> usize {
        match self.of.asked.order {
            Order::Ascending => self.of.asked.limit + 1,
            Order::Descending => usize::MAX - 1,
        }
    }

    pub fn take(&mut self, row: Row) {
        if self.is_full() {
            return;
        }
        let there: Vec<bool> = row.cells.iter().map(Option::is_some).collect();
        let start = row.start;
        self.filler.push(row, self.most());
        self.collect();
        // What fills the page lies behind it, and this row no less.
        if !self.is_full() {
            let seen = self.seen.iter_mut().zip(there).filter(|(_, there)| *there);
            seen.for_each(|(seen, _)| *seen = Some(start));
        }
    }

    pub fn end(&mut self, to: Micros) {
        self.filler.end(to, self.most());
        self.collect();
    }

    fn collect(&mut self) {
        let asked = &self.of.asked;
        while let Some(row) = self.filler.pop() {
            let wanted = match (asked.cursor, asked.order) {
                (None, _) => true,
                (Some(cursor), Order::Ascending) => row.start >= cursor.at,
                (Some(cursor), Order::Descending) => row.start < cursor.at,
            };
            if wanted && !self.is_full() {
                self.rows.push_back(row);
            }
            if asked.order == Order::Descending && self.rows.len() > asked.limit + 1 {
                self.rows.pop_front();
            }
        }
    }

    pub fn is_full(&self) -> bool {
        self.of.asked.order == Order::Ascending && self.rows.len() > self.of.asked.limit
    }

    pub fn finish(mut self) -> Page {
        let asked = &self.of.asked;
        if asked.order == Order::Descending {
            self.rows = self.rows.into_iter().rev().collect();
        }
        let more = self.rows.len() > asked.limit;
        let next = self.rows.get(asked.limit).map(|row| row.start);
        self.rows.truncate(asked.limit);
        let last = self.rows.back().map(|row| row.start);
        let cursor = match (more, asked.order) {
            (false, _) => None,
            (true, Order::Ascending) => next.map(|at| {
                // A count is known of every bucket; the others may have been seen long ago.
                let cells = self.of.cells();
                let seen = self.seen.iter().zip(&cells).filter(|(_, a)| **a != Aggregate::Count);
                let first = seen.filter_map(|(seen, _)| *seen).min();
                let fills = matches!(self.of.fill, Fill::Previous | Fill::Linear);
                Cursor { at, beside: first.filter(|_| fills).unwrap_or(at) }
            }),
            (true, Order::Descending) => last.map(|at| Cursor { at, beside: 0 }),
        };
        let aggregates = self.of.cells();
        let row = |row: Row| {
            let ts = Value::from(to_rfc3339(row.start));
            let cells = row.cells.into_iter().zip(&aggregates).map(|(value, of)| cell(value, *of));
            std::iter::once(ts).chain(cells).collect()
        };
        (PageRows::Made(self.rows.into_iter().map(row).collect()), cursor)
    }
}

fn cell(value: Option<f64>, of: Aggregate) -> Value {
    match value {
        None => Value::Null,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        Some(value) if of == Aggregate::Count => Value::from(value as u64),
        Some(value) => Value::from(value),
    }
}
