//! Rows of `dead_letters`.

use std::sync::Arc;

use acuvim_wire::{DeadLetter, record::RecordFacts, time::day_of};
use arrow::{
    array::{
        ArrayRef, BinaryBuilder, Date32Builder, Int32Builder, Int64Builder, RecordBatch,
        StringBuilder, TimestampMicrosecondBuilder,
    },
    error::ArrowError,
};

use crate::table::Table;

/// Builds rows of `dead_letters`.
#[derive(Debug, Default)]
pub struct DeadLetterRows {
    device_id: StringBuilder,
    received_at: TimestampMicrosecondBuilder,
    kind: StringBuilder,
    topic: StringBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
    payload: BinaryBuilder,
    length: Int64Builder,
    sha256: StringBuilder,
    epoch: Int32Builder,
    partition: Int32Builder,
    offset: Int64Builder,
    item: Int32Builder,
    date: Date32Builder,
    rows: usize,
}

impl DeadLetterRows {
    /// Adds the row of a dead letter, with the headers and the position of its record.
    pub fn push(&mut self, record: &RecordFacts<'_>, letter: &DeadLetter) {
        // An empty id would look like a device in queries that group by it.
        let device_id = Some(record.device_id).filter(|id| !id.is_empty());
        self.device_id.append_option(device_id);
        self.received_at.append_value(record.received_at);
        self.kind.append_value(record.kind);
        self.topic.append_value(record.topic);
        self.reason.append_value(letter.reason.as_str());
        self.detail.append_option(letter.detail.as_deref());
        self.payload.append_value(&letter.payload);
        self.length.append_value(i64::try_from(letter.length).unwrap_or(i64::MAX));
        self.sha256.append_option(letter.sha256.as_deref());
        self.epoch.append_value(record.epoch);
        self.partition.append_value(i32::try_from(record.position.partition).unwrap_or(i32::MAX));
        self.offset.append_value(record.position.offset);
        self.item.append_value(letter.item);
        self.date.append_value(day_of(record.received_at));
        self.rows += 1;
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns the rows and starts again without any.
    ///
    /// # Errors
    /// Only if the columns do not match the schema of [`Table::DeadLetters`], which is a bug.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.device_id.finish()),
            Arc::new(self.received_at.finish().with_timezone("UTC")),
            Arc::new(self.kind.finish()),
            Arc::new(self.topic.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.detail.finish()),
            Arc::new(self.payload.finish()),
            Arc::new(self.length.finish()),
            Arc::new(self.sha256.finish()),
            Arc::new(self.epoch.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.item.finish()),
            Arc::new(self.date.finish()),
        ];
        RecordBatch::try_new(Table::DeadLetters.schema(), columns)
    }
}

#[cfg(test)]
mod tests;
