//! The tail: rows that are in the log and not in the tables yet, in memory by partition and offset.

use std::{
    collections::VecDeque,
    sync::{PoisonError, RwLock},
};

use acuvim_tables::{Table, ledger::Ledger};
use arrow::array::RecordBatch;

/// The rows of every table that consecutive records were decoded to.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Readings, in log order.
    pub telemetry: RecordBatch,
    /// Dead letters, in log order.
    pub dead_letters: RecordBatch,
    /// Heartbeats, in log order.
    pub heartbeats: RecordBatch,
    /// The counts of the records and their rows.
    pub ledger: Ledger,
}

impl Rows {
    /// Rows of records that have none, such as pulses.
    #[must_use]
    pub fn none() -> Self {
        let empty = |table: Table| RecordBatch::new_empty(table.schema());
        Self {
            telemetry: empty(Table::Telemetry),
            dead_letters: empty(Table::DeadLetters),
            heartbeats: empty(Table::Heartbeats),
            ledger: Ledger::default(),
        }
    }

    /// The rows of one table; none for tables that have no tail.
    #[must_use]
    pub const fn of(&self, table: Table) -> Option<&RecordBatch> {
        match table {
            Table::Telemetry => Some(&self.telemetry),
            Table::DeadLetters => Some(&self.dead_letters),
            Table::Heartbeats => Some(&self.heartbeats),
            Table::Ledger
            | Table::AlertEvents
            | Table::DeviceEvents
            | Table::Rollup15m
            | Table::RollupDaily => None,
        }
    }

    fn count(&self) -> usize {
        self.all().iter().map(|rows| rows.num_rows()).sum()
    }

    /// Visits every column of every table, so it is called only when a batch enters and leaves.
    fn size(&self) -> TailSize {
        let bytes: usize = self.all().iter().map(|rows| rows.get_array_memory_size()).sum();
        TailSize { bytes: bytes + self.ledger.memory(), rows: self.count() }
    }

    const fn all(&self) -> [&RecordBatch; 3] {
        [&self.telemetry, &self.dead_letters, &self.heartbeats]
    }
}

/// The size of a tail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TailSize {
    /// Memory in bytes, that of the ledger included.
    pub bytes: usize,
    /// The number of rows that are waiting for a flush, of all tables together.
    pub rows: usize,
}

/// The rows of the records from one offset up to, but not including, another.
#[derive(Debug, Clone)]
pub struct TailBatch {
    /// The offset of the first record.
    pub from: i64,
    /// The offset after the last record.
    pub next: i64,
    /// Their rows; possibly none.
    pub rows: Rows,
}

/// The tails of all partitions.
#[derive(Debug)]
pub struct Tail {
    partitions: Vec<RwLock<Partition>>,
    size: tokio::sync::watch::Sender<TailSize>,
}

#[derive(Debug, Default)]
struct Partition {
    batches: VecDeque<TailBatch>,
    /// The number of rows of all batches.
    rows: usize,
    /// The first offset that has not been read; none while the partition is not followed.
    next: Option<i64>,
}

impl Tail {
    /// A tail without rows, of which no partition is followed yet.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        let partitions = (0..partitions).map(|_| RwLock::default()).collect();
        Self { partitions, size: tokio::sync::watch::Sender::default() }
    }

    /// Empties a partition, and begins it at an offset.
    pub fn start(&self, partition: u32, next: i64) {
        self.clear(partition, Some(next));
    }

    /// Empties a partition that is no longer followed.
    pub fn stop(&self, partition: u32) {
        self.clear(partition, None);
    }

    fn clear(&self, partition: u32, next: Option<i64>) {
        let freed = self.with_mut(partition, |p| {
            (p.next, p.rows) = (next, 0);
            std::mem::take(&mut p.batches)
        });
        self.freed(freed.iter().flatten());
    }

    /// Adds the rows of the next records.
    pub fn push(&self, partition: u32, batch: TailBatch) {
        // Before the lock is taken, since it visits every column.
        let size = batch.rows.size();
        self.with_mut(partition, |p| {
            // Rows and offset change under one lock, so that a watermark never claims rows which a
            // view lacks.
            p.next = Some(batch.next);
            p.rows += size.rows;
            p.batches.push_back(batch);
        });
        self.size.send_modify(|all| {
            all.bytes += size.bytes;
            all.rows += size.rows;
        });
    }

    /// All batches by partition. Copies references to the columns, not the columns.
    #[must_use]
    pub fn batches(&self) -> Vec<Vec<TailBatch>> {
        let copy = |p: &RwLock<Partition>| {
            p.read().unwrap_or_else(PoisonError::into_inner).batches.iter().cloned().collect()
        };
        self.partitions.iter().map(copy).collect()
    }

    /// The number of rows of a partition.
    #[must_use]
    pub fn rows(&self, partition: u32) -> usize {
        let partition = usize::try_from(partition).ok().and_then(|p| self.partitions.get(p));
        partition.map_or(0, |p| p.read().unwrap_or_else(PoisonError::into_inner).rows)
    }

    /// The first offset of each partition that has not been read; none where it is not followed.
    #[must_use]
    pub fn next_offsets(&self) -> Vec<Option<i64>> {
        let next = |p: &RwLock<Partition>| p.read().unwrap_or_else(PoisonError::into_inner).next;
        self.partitions.iter().map(next).collect()
    }

    /// Drops batches that every table covers.
    pub fn trim(&self, partition: u32, before: i64) {
        let freed = self.with_mut(partition, |p| {
            // A batch that is covered in part stays whole. Views cut it.
            let gone = p.batches.iter().take_while(|b| b.next <= before).count();
            let gone = p.batches.drain(..gone).collect::<Vec<_>>();
            p.rows -= gone.iter().map(|batch| batch.rows.count()).sum::<usize>();
            gone
        });
        self.freed(freed.iter().flatten());
    }

    fn freed<'a>(&self, batches: impl Iterator<Item = &'a TailBatch>) {
        self.size.send_modify(|all| {
            for size in batches.map(|b| b.rows.size()) {
                all.bytes = all.bytes.saturating_sub(size.bytes);
                all.rows = all.rows.saturating_sub(size.rows);
            }
        });
    }

    /// The size, for readers of the log that wait for room.
    #[must_use]
    pub fn size(&self) -> tokio::sync::watch::Receiver<TailSize> {
        self.size.subscribe()
    }

    fn with_mut<T>(&self, partition: u32, f: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        let partition = self.partitions.get(usize::try_from(partition).ok()?)?;
        Some(f(&mut partition.write().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests;
