//! The ledger: how much was received, and what became of it. received = stored + heartbeats + noted +
//! duplicates + dead_letters + same_ts. Records of the log that are not counted yet are in flight.

use std::{collections::BTreeMap, sync::Arc};

use acuvim_wire::{
    Position,
    time::{MINUTE, Micros, day_of},
};
use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, Date32Array, Int32Array, Int64Array, RecordBatch,
        StringArray, TimestampMicrosecondArray,
    },
    datatypes::{Int64Type, TimestampMicrosecondType},
    error::ArrowError,
};

use crate::table::Table;

/// The counts of one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records of the log.
    pub records: i64,
    /// Readings and other messages from devices.
    pub received: i64,
    /// Readings that became rows of `telemetry`.
    pub stored: i64,
    /// Heartbeats that became rows of `heartbeats`.
    pub heartbeats: i64,
    /// Messages that only changed something in control, or nothing at all.
    pub noted: i64,
    /// Readings and heartbeats that were stored before.
    pub duplicates: i64,
    /// Readings and messages that could not be used.
    pub dead_letters: i64,
    /// Readings with the time of a stored one and other values, which are dead letters of their own kind.
    pub same_ts: i64,
    /// Those among the received that were replayed.
    pub replayed: i64,
    /// Records of ingest, such as pulses.
    pub internal: i64,
}

impl Counts {
    /// Received, and in none of the other counts: not 0 means that readings were lost.
    #[must_use]
    pub const fn unaccounted(&self) -> i64 {
        self.received
            - self.stored
            - self.heartbeats
            - self.noted
            - self.duplicates
            - self.dead_letters
            - self.same_ts
    }

    /// Adds the counts of other records.
    pub const fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.received += other.received;
        self.stored += other.stored;
        self.heartbeats += other.heartbeats;
        self.noted += other.noted;
        self.duplicates += other.duplicates;
        self.dead_letters += other.dead_letters;
        self.same_ts += other.same_ts;
        self.replayed += other.replayed;
        self.internal += other.internal;
    }
}

/// The counts of a range of records by minute of `received_at`: for the partition, and for each device
/// with duplicates or dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// By start of the minute and device; none: the whole partition.
    // Sorted, so that the same counts make the same rows.
    minutes: BTreeMap<(Micros, Option<Arc<str>>), Minute>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Minute {
    counts: Counts,
    /// The first offset that is counted, and the one after the last.
    first: i64,
    next: i64,
}

/// The memory of an entry: key, counts and device id.
const ENTRY: usize = size_of::<(Micros, Option<Arc<str>>)>() + size_of::<Minute>() + 48;

impl Ledger {
    /// Adds the counts of one record.
    pub fn count(
        &mut self,
        device: Option<&Arc<str>>,
        received_at: Micros,
        offset: i64,
        counts: &Counts,
    ) {
        let minute = received_at.div_euclid(MINUTE) * MINUTE;
        let added = Minute { counts: *counts, first: offset, next: offset + 1 };
        self.minutes
            .entry((minute, device.cloned()))
            .and_modify(|held| held.add(&added))
            .or_insert(added);
    }

    /// Adds the counts of another ledger of the same partition.
    pub fn merge(&mut self, other: &Self) {
        for (key, minute) in &other.minutes {
            self.minutes.entry(key.clone()).and_modify(|held| held.add(minute)).or_insert(*minute);
        }
    }

    /// The first offset that is counted.
    #[must_use]
    pub fn first_offset(&self) -> Option<i64> {
        self.minutes.values().map(|minute| minute.first).min()
    }

    /// The approximate memory in bytes. It has to be counted as well as the memory of the rows:
    /// duplicates have no rows, but entries here.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.minutes.len() * ENTRY
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// The counts of the partition over all minutes.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for ((_, device), minute) in &self.minutes {
            if device.is_none() {
                total.add(&minute.counts);
            }
        }
        total
    }

    /// Rows of the table. The offset of a row is the last one that it counts.
    ///
    /// # Errors
    /// Only if the columns do not match the schema of [`Table::Ledger`], which is a bug.
    pub fn rows(&self, epoch: i32, partition: u32) -> Result<RecordBatch, ArrowError> {
        let whole = |get: fn(&Minute) -> i64| -> ArrayRef {
            Arc::new(self.minutes.values().map(|m| Some(get(m))).collect::<Int64Array>())
        };
        let rows = self.minutes.len();
        let devices: StringArray = self.minutes.keys().map(|(_, d)| d.as_deref()).collect();
        let minutes = self.minutes.keys().map(|(minute, _)| *minute);
        let times = TimestampMicrosecondArray::from_iter_values(minutes.clone());
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(devices),
            Arc::new(times.with_timezone("UTC")),
            whole(|m| m.counts.records),
            whole(|m| m.counts.received),
            whole(|m| m.counts.stored),
            whole(|m| m.counts.heartbeats),
            whole(|m| m.counts.noted),
            whole(|m| m.counts.duplicates),
            whole(|m| m.counts.dead_letters),
            whole(|m| m.counts.replayed),
            whole(|m| m.counts.internal),
            whole(|m| m.first),
            whole(|m| m.next),
            whole(|m| m.counts.same_ts),
            Arc::new(Int32Array::from(vec![epoch; rows])),
            Arc::new(Int32Array::from(vec![partition; rows])),
            whole(|m| m.next - 1),
            Arc::new(Int32Array::from(vec![0; rows])),
            Arc::new(Date32Array::from_iter_values(minutes.map(day_of))),
        ];
        RecordBatch::try_new(Table::Ledger.schema(), columns)
    }
}

impl Minute {
    fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.first = self.first.min(other.first);
        self.next = self.next.max(other.next);
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerRow {
    /// The start of the minute.
    pub minute: Micros,
    /// What was received in that minute, and what became of it.
    pub counts: Counts,
    /// The first position that it counts.
    pub first: Position,
    /// The offset after the last one.
    pub next: i64,
}

/// The rows of partitions in a batch; rows of devices are skipped.
#[must_use]
pub fn rows_of(batch: &RecordBatch) -> Vec<LedgerRow> {
    let column = |name: &str| batch.column_by_name(name).map(|c| c.as_primitive::<Int64Type>());
    let read = || {
        let devices = batch.column_by_name("device_id")?.as_string::<i32>();
        let minutes = batch.column_by_name("minute")?.as_primitive::<TimestampMicrosecondType>();
        let partitions = batch.column_by_name("partition")?;
        let partitions = partitions.as_primitive::<arrow::datatypes::Int32Type>();
        let names = [
            "records",
            "received",
            "stored",
            "heartbeats",
            "noted",
            "duplicates",
            "dead_letters",
            "replayed",
            "internal",
            "same_ts",
            "first_offset",
            "next_offset",
        ];
        let columns = names.iter().map(|name| column(name)).collect::<Option<Vec<_>>>()?;
        let rows = (0..batch.num_rows()).filter(|row| devices.is_null(*row));
        let row = |row: usize| {
            // Null in rows of an earlier version, which did not have the column.
            let cell = |c: &&Int64Array| if c.is_valid(row) { c.value(row) } else { 0 };
            let mut cells = columns.iter().map(cell);
            let mut cell = || cells.next().unwrap_or(0);
            let counts = Counts {
                records: cell(),
                received: cell(),
                stored: cell(),
                heartbeats: cell(),
                noted: cell(),
                duplicates: cell(),
                dead_letters: cell(),
                replayed: cell(),
                internal: cell(),
                same_ts: cell(),
            };
            let partition = u32::try_from(partitions.value(row)).unwrap_or(0);
            let first = Position { partition, offset: cell() };
            LedgerRow { minute: minutes.value(row), counts, first, next: cell() }
        };
        Some(rows.map(row).collect())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests;
