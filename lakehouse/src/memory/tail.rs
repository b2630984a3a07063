//! The tail: rows that are in the log and not yet in the lake, in memory, by partition and offset.

use std::{
    collections::VecDeque,
    sync::{PoisonError, RwLock},
};

use acuvim_schemas::{ledger::Ledger, tables::Table};
use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};

use crate::{Covered, Error, writer::column};

/// Rows of every table that a run of records came to.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Readings, in log order.
    pub telemetry: RecordBatch,
    /// Dead letters, in log order.
    pub dead_letters: RecordBatch,
    /// Heartbeats, in log order.
    pub heartbeats: RecordBatch,
    /// What the records came to, counted.
    pub ledger: Ledger,
}

impl Rows {
    /// No rows.
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

    /// The rows for one table; none for those that have no tail.
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

    /// Asks every column of every table: too dear for more than once in and once out.
    fn size(&self) -> TailSize {
        let bytes: usize = self.all().iter().map(|rows| rows.get_array_memory_size()).sum();
        TailSize { bytes: bytes + self.ledger.memory(), rows: self.count() }
    }

    const fn all(&self) -> [&RecordBatch; 3] {
        [&self.telemetry, &self.dead_letters, &self.heartbeats]
    }
}

/// How much a tail holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TailSize {
    /// Bytes of memory.
    pub bytes: usize,
    /// Rows of all tables.
    pub rows: usize,
}

/// The rows of the records from one offset up to but not including another.
#[derive(Debug, Clone)]
pub struct TailBatch {
    /// The first offset it stands for.
    pub from: i64,
    /// The offset behind its last.
    pub next: i64,
    /// What they came to; may be none at all.
    pub rows: Rows,
}

/// All partitions' tails.
#[derive(Debug)]
pub struct Tail {
    partitions: Vec<RwLock<Partition>>,
    size: tokio::sync::watch::Sender<TailSize>,
}

#[derive(Debug, Default)]
struct Partition {
    batches: VecDeque<TailBatch>,
    /// Rows of all batches.
    rows: usize,
    /// How far the partition has been read; none before its first record.
    next: Option<i64>,
}

impl Tail {
    /// An empty tail of so many partitions.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        let partitions = (0..partitions).map(|_| RwLock::default()).collect();
        Self { partitions, size: tokio::sync::watch::Sender::default() }
    }

    /// Begins a partition anew at an offset, with no rows.
    pub fn start(&self, partition: u32, next: i64) {
        self.clear(partition, Some(next));
    }

    /// Lets go of a partition, rows and place.
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

    /// Adds what the next records came to.
    pub fn push(&self, partition: u32, batch: TailBatch) {
        let size = batch.rows.size();
        self.with_mut(partition, |p| {
            p.next = Some(batch.next);
            p.rows += size.rows;
            p.batches.push_back(batch);
        });
        self.size.send_modify(|all| {
            all.bytes += size.bytes;
            all.rows += size.rows;
        });
    }

    /// Everything held, partition by partition.
    #[must_use]
    pub fn batches(&self) -> Vec<Vec<TailBatch>> {
        let copy = |p: &RwLock<Partition>| {
            p.read().unwrap_or_else(PoisonError::into_inner).batches.iter().cloned().collect()
        };
        self.partitions.iter().map(copy).collect()
    }

    /// Rows held of a partition.
    #[must_use]
    pub fn rows(&self, partition: u32) -> usize {
        let partition = usize::try_from(partition).ok().and_then(|p| self.partitions.get(p));
        partition.map_or(0, |p| p.read().unwrap_or_else(PoisonError::into_inner).rows)
    }

    /// How far each partition has been read; none where nothing has been since the start.
    #[must_use]
    pub fn next_offsets(&self) -> Vec<Option<i64>> {
        let next = |p: &RwLock<Partition>| p.read().unwrap_or_else(PoisonError::into_inner).next;
        self.partitions.iter().map(next).collect()
    }

    /// Lets go of what the lake's every table has.
    pub fn trim(&self, partition: u32, before: i64) {
        let freed = self.with_mut(partition, |p| {
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

    /// How much is held, to wait for room with.
    #[must_use]
    pub fn size(&self) -> tokio::sync::watch::Receiver<TailSize> {
        self.size.subscribe()
    }

    fn with_mut<T>(&self, partition: u32, f: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        let partition = self.partitions.get(usize::try_from(partition).ok()?)?;
        Some(f(&mut partition.write().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The rows of a table that lie behind what a snapshot covers, cut inside a batch where needed, of
/// the partitions that are wanted.
pub(crate) fn beyond(
    table: Table,
    batches: &[Vec<TailBatch>],
    covered: &Covered,
    wanted: &dyn Fn(u32) -> bool,
) -> Result<Vec<RecordBatch>, Error> {
    let mut rows = Vec::new();
    for (partition, batches) in (0_u32..).zip(batches).filter(|(p, _)| wanted(*p)) {
        let covered = covered.get(&partition).copied().unwrap_or(i64::MIN);
        for batch in batches.iter().filter(|b| b.next > covered) {
            let Some(held) = batch.rows.of(table) else { continue };
            let held = if batch.from >= covered { held.clone() } else { cut(held, covered)? };
            if held.num_rows() > 0 {
                rows.push(held);
            }
        }
    }
    Ok(rows)
}

/// The counts of the batches that lie behind what `ledger` covers. A batch can't be cut: whoever
/// counted it knew where the table was, and if that has moved since into its middle, the partition
/// has another owner.
pub(crate) fn ledger_beyond(
    batches: &[Vec<TailBatch>],
    covered: &Covered,
    wanted: &dyn Fn(u32) -> bool,
) -> Result<Vec<(u32, Ledger)>, Moved> {
    let mut all = Vec::new();
    for (partition, batches) in (0_u32..).zip(batches).filter(|(p, _)| wanted(*p)) {
        let covered = covered.get(&partition).copied().unwrap_or(i64::MIN);
        let mut ledger = Ledger::default();
        for batch in batches.iter().filter(|b| b.next > covered) {
            if batch.rows.ledger.first_offset().is_some_and(|first| first < covered) {
                return Err(Moved(partition));
            }
            ledger.merge(&batch.rows.ledger);
        }
        if !ledger.is_empty() {
            all.push((partition, ledger));
        }
    }
    Ok(all)
}

/// Another writer has moved this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved(pub u32);

/// The rows from an offset on; rows are in offset order.
fn cut(rows: &RecordBatch, from: i64) -> Result<RecordBatch, Error> {
    let offsets = column(rows, "offset")?.as_primitive::<Int64Type>();
    let first = offsets.values().partition_point(|o| *o < from);
    Ok(rows.slice(first, offsets.len() - first))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use acuvim_schemas::ledger::Counts;

    use super::*;

    #[test]
    fn what_is_counted_takes_room_as_rows_do() {
        let tail = Tail::new(1);
        tail.start(0, 0);
        let mut rows = Rows::none();
        let without = rows.size().bytes;
        for offset in 0..1000 {
            // A duplicate: no row, but the ledger names its device.
            let device: Arc<str> = format!("d{offset}").into();
            rows.ledger.count(Some(&device), 0, offset, &Counts::default());
        }
        tail.push(0, TailBatch { from: 0, next: 1000, rows });
        let bytes = tail.size().borrow().bytes;
        assert!(bytes > without + 100_000, "{bytes}");
        tail.trim(0, 1000);
        assert_eq!(*tail.size().borrow(), TailSize::default());
    }
}
