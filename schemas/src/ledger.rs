//! The ledger: what was received, and what became of it. received = stored + heartbeats + noted +
//! duplicates + dead_letters + same_ts; what is in the log and not counted yet is in flight.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, Date32Array, Int32Array, Int64Array, RecordBatch,
        StringArray, TimestampMicrosecondArray,
    },
    datatypes::{Int64Type, TimestampMicrosecondType},
    error::ArrowError,
};

use crate::{
    record::Position,
    tables::Table,
    time::{Micros, SECOND, day_of},
};

/// Microseconds in a minute, the step of the ledger.
pub const MINUTE: Micros = 60 * SECOND;

/// Counts of one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records of the log.
    pub records: i64,
    /// Readings and other messages that devices sent.
    pub received: i64,
    /// Readings that became rows of `telemetry`.
    pub stored: i64,
    /// Heartbeats that became rows of `heartbeats`.
    pub heartbeats: i64,
    /// Messages that changed something in control alone, or nothing.
    pub noted: i64,
    /// What was stored before.
    pub duplicates: i64,
    /// What could not be used.
    pub dead_letters: i64,
    /// Readings under whose time another is stored that says something else: dead letters of their
    /// own kind.
    pub same_ts: i64,
    /// Of what was received, what a replay brought again.
    pub replayed: i64,
    /// Records that no device sent.
    pub internal: i64,
}

impl Counts {
    /// Received, and neither stored nor anything else that can become of it.
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

    /// Adds another's.
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

/// The counts of a run of records, by minute of their `received_at`: of the whole partition, and of
/// devices with duplicates or dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The minute's counts, by its start and device; none: the partition's.
    minutes: BTreeMap<(Micros, Option<Arc<str>>), Minute>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Minute {
    counts: Counts,
    /// The first offset it counts, and the one behind its last.
    first: i64,
    next: i64,
}

/// An entry with its key, and a device's name behind it.
const ENTRY: usize = size_of::<(Micros, Option<Arc<str>>)>() + size_of::<Minute>() + 48;

impl Ledger {
    /// Counts what one record came to.
    pub fn count(
        &mut self,
        device: Option<&Arc<str>>,
        received_at: Micros,
        offset: i64,
        counts: &Counts,
    ) {
        let minute = received_at.div_euclid(MINUTE) * MINUTE;
        let place = Minute { counts: *counts, first: offset, next: offset + 1 };
        self.minutes
            .entry((minute, device.cloned()))
            .and_modify(|held| held.add(&place))
            .or_insert(place);
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        for (key, minute) in &other.minutes {
            self.minutes.entry(key.clone()).and_modify(|held| held.add(minute)).or_insert(*minute);
        }
    }

    /// The first offset that was counted.
    #[must_use]
    pub fn first_offset(&self) -> Option<i64> {
        self.minutes.values().map(|minute| minute.first).min()
    }

    /// About how many bytes of memory it takes: one that names many devices takes more than the rows
    /// that it stands for, of which duplicates have none.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.minutes.len() * ENTRY
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// The partition's counts over all minutes.
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

    /// As rows of the table. The offset of a row is the last that it counts.
    ///
    /// # Errors
    /// Only if the columns and the schema of [`Table::Ledger`] have come apart.
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

/// A row of the table, as it is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerRow {
    /// The start of its minute.
    pub minute: Micros,
    /// Its counts.
    pub counts: Counts,
    /// Where it begins in the log.
    pub first: Position,
    /// The offset behind its last.
    pub next: i64,
}

/// The partitions' rows of a batch that was read; those of devices are passed over.
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
            // Rows of an earlier version have nothing in a column that came since.
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
mod tests {
    use super::*;

    #[test]
    fn minutes_add_up_and_come_back() {
        let device: Arc<str> = "d".into();
        let one = Counts {
            records: 1,
            received: 4,
            stored: 2,
            duplicates: 1,
            same_ts: 1,
            ..Counts::default()
        };
        let mut ledger = Ledger::default();
        ledger.count(None, 61 * SECOND, 7, &one);
        ledger.count(None, 119 * SECOND, 8, &one);
        ledger.count(Some(&device), 61 * SECOND, 7, &one);
        let mut other = Ledger::default();
        other.count(None, 120 * SECOND, 9, &one);
        ledger.merge(&other);
        assert_eq!(ledger.total().received, 12);
        assert_eq!(ledger.total().unaccounted(), 0);
        let rows = rows_of(&ledger.rows(0, 3).expect("schema"));
        let at: Vec<_> = rows.iter().map(|r| (r.minute / SECOND, r.first.offset, r.next)).collect();
        assert_eq!(at, [(60, 7, 9), (120, 9, 10)]);
        assert_eq!(rows.first().map(|r| (r.counts.stored, r.counts.same_ts)), Some((4, 2)));
    }
}
