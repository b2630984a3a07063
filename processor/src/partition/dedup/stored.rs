//! Readings that are stored already, which repetitions are compared with.

use std::{collections::HashMap, sync::Arc};

use acuvim_wire::Micros;
use arrow::array::RecordBatch;

use super::columns::devices_and_times;
use crate::fatal::Fatal;

/// Stored readings, by device and time.
#[derive(Default)]
pub(super) struct StoredReadings {
    batches: Vec<RecordBatch>,
    rows: HashMap<Arc<str>, HashMap<Micros, RowIndex>>,
}

#[derive(Clone, Copy)]
struct RowIndex {
    batch: usize,
    row: usize,
}

impl StoredReadings {
    pub fn add(&mut self, rows: RecordBatch) -> Result<(), Fatal> {
        let batch = self.batches.len();
        for (row, (device, ts)) in devices_and_times(&rows)?.into_iter().enumerate() {
            self.rows.entry(device.into()).or_default().insert(ts, RowIndex { batch, row });
        }
        self.batches.push(rows);
        Ok(())
    }

    /// The batch and the row of a reading.
    pub fn get(&self, device: &str, ts: Micros) -> Option<(&RecordBatch, usize)> {
        let index = self.rows.get(device)?.get(&ts)?;
        Some((self.batches.get(index.batch)?, index.row))
    }
}
