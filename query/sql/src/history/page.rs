//! The rows of a page of buckets, and where the next page begins. Pure.

use std::collections::VecDeque;

use acuvim_wire::{Micros, time::to_rfc3339};
use arrow::array::RecordBatch;
use serde_json::{Value, json};

use super::{
    aggregate::Aggregate,
    bucket_query::BucketQuery,
    fill::{Fill, Filler},
    fold::Row,
    request::{Cursor, Order},
};
use crate::{
    answer::{Pieces, object_with, pieces_of},
    encode::Lines,
    engine::ViewState,
};

/// A page: its rows, and where the next one begins.
pub(super) struct Page {
    pub rows: PageRows,
    pub next: Option<Cursor>,
}

/// Rows as they were read, or as they were computed.
#[derive(Debug)]
pub(super) enum PageRows {
    Read(Vec<RecordBatch>),
    Computed(Vec<Vec<Value>>),
}

impl Page {
    /// A [`History`](acuvim_model::History), with these fields before its rows.
    pub fn into_pieces(self, before: &Value, view: ViewState) -> Pieces {
        let next = self.next.map(|cursor| cursor.to_string());
        object_with(before, "rows", self.rows.into_pieces(), move || {
            json!({
                "next_cursor": next,
                "lake_version": view.lake_version,
                "watermark": view.watermark,
            })
        })
    }
}

impl PageRows {
    fn into_pieces(self) -> Pieces {
        match self {
            Self::Read(batches) => {
                let lines = Lines::arrays();
                Box::new(pieces_of(batches, move |rows, out| lines.write(rows, out)))
            }
            Self::Computed(rows) => Box::new(rows.into_iter().map(|row| {
                let mut text = Vec::new();
                // Writing to memory does not fail.
                drop(serde_json::to_writer(&mut text, &row));
                text
            })),
        }
    }
}

/// Collects a page's rows from buckets in ascending order.
pub(super) struct BucketPage<'a> {
    of: &'a BucketQuery,
    filler: Filler,
    rows: VecDeque<Row>,
    /// The last bucket of each cell that has a value and lies before the page's end.
    seen: Vec<Option<Micros>>,
}

impl<'a> BucketPage<'a> {
    pub fn new(of: &'a BucketQuery, from: Micros) -> Self {
        let filler = Filler::new(of.buckets, of.fill, of.cells(), from);
        let filler = match (of.request.cursor.map(|cursor| cursor.at), of.request.order) {
            (None, Order::Ascending) => filler,
            (Some(at), Order::Ascending) => filler.wanted_from(at),
            (at, Order::Descending) => {
                filler.wanted_to(at.unwrap_or(Micros::MAX), of.request.limit + 1)
            }
        };
        Self { of, filler, rows: VecDeque::new(), seen: vec![None; of.cells().len()] }
    }

    fn most(&self) -> usize {
        match self.of.request.order {
            // One row more than the page has shows that there is a next page.
            Order::Ascending => self.of.request.limit + 1,
            // The last rows are the page: none is final before the end, and the filler keeps few of them.
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
        // Once the page is full this row belongs to the next one.
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
        let request = &self.of.request;
        while let Some(row) = self.filler.pop() {
            // Buckets before the cursor are only read for what fills need of them.
            let wanted = match (request.cursor, request.order) {
                (None, _) => true,
                (Some(cursor), Order::Ascending) => row.start >= cursor.at,
                (Some(cursor), Order::Descending) => row.start < cursor.at,
            };
            if wanted && !self.is_full() {
                self.rows.push_back(row);
            }
            if request.order == Order::Descending && self.rows.len() > request.limit + 1 {
                self.rows.pop_front();
            }
        }
    }

    pub fn is_full(&self) -> bool {
        self.of.request.order == Order::Ascending && self.rows.len() > self.of.request.limit
    }

    pub fn finish(mut self) -> Page {
        let request = &self.of.request;
        if request.order == Order::Descending {
            self.rows = self.rows.into_iter().rev().collect();
        }
        let more = self.rows.len() > request.limit;
        let next = self.rows.get(request.limit).map(|row| row.start);
        self.rows.truncate(request.limit);
        let last = self.rows.back().map(|row| row.start);
        let cursor = match (more, request.order) {
            (false, _) => None,
            (true, Order::Ascending) => next.map(|at| {
                // A count has a value in every bucket; other cells may have had their last one long ago.
                let cells = self.of.cells();
                let seen = self.seen.iter().zip(&cells).filter(|(_, a)| **a != Aggregate::Count);
                // The earliest: the next page reads from there, and finds the last value of every cell.
                let first = seen.filter_map(|(seen, _)| *seen).min();
                let fills = matches!(self.of.fill, Fill::Previous | Fill::Linear);
                // Without a fill the next page needs nothing from before it.
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
        Page { rows: PageRows::Computed(self.rows.into_iter().map(row).collect()), next: cursor }
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

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_model::History;
    use arrow::array::{ArrayRef, Decimal128Array, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn before() -> Value {
        let columns = json!([{"name": "voltage_l1_v", "unit": "V"}]);
        json!({"device_id": "d", "interval": null, "tz": "UTC", "columns": columns})
    }

    fn read(page: Page) -> History {
        let view = ViewState { lake_version: 7, watermark: vec![3, 4] };
        let text: Vec<u8> = page.into_pieces(&before(), view).flatten().collect();
        serde_json::from_slice(&text).expect("a history")
    }

    #[test]
    fn what_is_written_is_a_history() {
        let times = TimestampMicrosecondArray::from(vec![0, 1_000_001, 2]).with_timezone("UTC");
        let volts = Decimal128Array::from(vec![Some(2300), None, Some(1)]);
        let volts = volts.with_precision_and_scale(6, 1).expect("fits");
        let rows = RecordBatch::try_from_iter([
            ("ts", Arc::new(times) as ArrayRef),
            ("voltage_l1_v", Arc::new(volts) as ArrayRef),
        ]);
        let rows = PageRows::Read(vec![rows.expect("rows").slice(0, 2)]);
        let history = read(Page { rows, next: Some(Cursor { at: 5, beside: 1 }) });
        let wanted =
            json!([["1970-01-01T00:00:00.000Z", 230.0], ["1970-01-01T00:00:01.000001Z", null]]);
        assert_eq!(json!(history.rows), wanted);
        assert_eq!(history.next_cursor.as_deref(), Some("5_1"));
        assert_eq!((history.lake_version, history.watermark), (7, vec![3, 4]));
        let made = vec![vec![json!("a"), json!(1)], vec![json!("b"), Value::Null]];
        assert_eq!(read(Page { rows: PageRows::Computed(made.clone()), next: None }).rows, made);
        assert_eq!(
            read(Page { rows: PageRows::Computed(Vec::new()), next: None }).rows,
            Vec::<Vec<Value>>::new()
        );
    }
}
