//! The lake as other crates see it. Every method delegates to the module that does the work.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use acuvim_model::event::Event;
use acuvim_tables::{Table, ledger::LedgerRow};
use acuvim_wire::time::Micros;
use arrow::array::RecordBatch;

use crate::{
    bootstrap::Bootstrap,
    delta::{Snapshot, events, tables::Tables},
    error::Error,
    memory::{
        Arrivals, DeviceDay, Flushed, Latest, LiveState, Newest, Tail, TailBatch, flush::flush,
    },
    options::LakeOptions,
    rollup::{NotRolledUp, RolledUp, Rollups, Zones},
    upkeep::{
        Cleaned, Compacted, CompactionPolicy, Retained, cleaning, compaction, inspection, retention,
    },
    view::{Engine, Letter, LetterFilter, Reader, View},
};

/// The tables of a lake, the rows that are not in them yet, and the views that queries read.
#[derive(Debug)]
pub struct Lake {
    tables: Arc<Tables>,
    live: LiveState,
    reader: Reader,
    rollups: Rollups,
}

impl Lake {
    /// Opens every table, and creates those that do not exist. No partition is followed or written yet.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setup`] if the URL can't be used, [`crate::ErrorKind::Unavailable`] if the store
    /// can't be reached.
    pub async fn open(options: LakeOptions, engine: Engine) -> Result<Self, Error> {
        let live = LiveState::new(options.partitions, options.max_ahead);
        let tables = Arc::new(Tables::open(options).await?);
        let tail = Arc::clone(&live.tail);
        let reader = Reader { tables: Arc::clone(&tables), tail, engine };
        let rollups = Rollups::new(reader.clone(), live.newest.clone());
        Ok(Self { tables, live, reader, rollups })
    }

    /// The epoch of the log that the lake is written from.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.tables.options.epoch
    }

    /// The rows that are not in the tables yet.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.live.tail
    }

    /// The engine of its queries and merges.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.reader.engine
    }

    /// The latest reading of every device in the partitions that are followed.
    #[must_use]
    pub const fn latest(&self) -> &Latest {
        &self.live.latest
    }

    /// What has just arrived, for the live feed.
    #[must_use]
    pub const fn arrivals(&self) -> &Arrivals {
        &self.live.arrivals
    }

    /// The newest `ts` of every device's readings.
    #[must_use]
    pub const fn newest(&self) -> &Newest {
        &self.live.newest
    }

    /// The time of every device's newest heartbeat.
    #[must_use]
    pub const fn newest_heartbeats(&self) -> &Newest {
        &self.live.newest_heartbeats
    }

    /// Adds the rows of the next records of a partition. From now on hot views contain them.
    pub fn push(&self, partition: u32, batch: TailBatch) -> Result<(), Error> {
        self.live.push(partition, batch)
    }

    /// Begins to follow partitions from the offsets that `telemetry` covers. What is known of their
    /// devices is read from exactly that version.
    ///
    /// # Errors
    /// When the store fails. The partitions are then not followed.
    pub async fn follow(&self, partitions: &BTreeSet<u32>) -> Result<(), Error> {
        // Another process may have written these partitions until now. Its records must not be read
        // a second time.
        self.catch_up().await?;
        let snapshot = self.snapshot(Table::Telemetry)?;
        partitions.iter().for_each(|partition| self.live.forget(*partition));
        let (reader, rollups, live) = (&self.reader, &self.rollups, &self.live);
        let bootstrap = Bootstrap { reader, rollups, live, partitions };
        bootstrap.load_readings(&snapshot).await?;
        bootstrap.load_heartbeats().await?;
        for partition in partitions {
            self.live.tail.start(*partition, self.tables.next_offset(&snapshot, *partition));
        }
        Ok(())
    }

    /// Stops following a partition. Views no longer contain its rows beyond the tables.
    pub fn unfollow(&self, partition: u32) {
        // Before the tail is emptied, so that no flush of this process meets half of it.
        self.live.own(partition, false);
        self.live.tail.stop(partition);
        self.live.forget(partition);
    }

    /// Sets whether flushes of this process write a partition that it follows. The rows do not depend on
    /// who writes them, since they are a function of the log and the tables.
    pub fn own(&self, partition: u32, own: bool) {
        self.live.own(partition, own);
    }

    /// The number of rows in the tail that this process has to write.
    #[must_use]
    pub fn pending_rows(&self) -> usize {
        self.live.owned().into_iter().map(|partition| self.live.tail.rows(partition)).sum()
    }

    /// Where reading the log continues: the first offset that `telemetry` does not cover.
    #[must_use]
    pub fn next_offset(&self, partition: u32) -> i64 {
        self.next_offset_of(Table::Telemetry, partition)
    }

    /// The first offset that a table does not cover.
    #[must_use]
    pub fn next_offset_of(&self, table: Table, partition: u32) -> i64 {
        let snapshot = self.snapshot(table);
        snapshot.map_or(0, |snapshot| self.tables.next_offset(&snapshot, partition))
    }

    /// Reads what other processes have committed, and drops rows of the tail that the tables have.
    pub async fn catch_up(&self) -> Result<(), Error> {
        let telemetry = self.tables.catch_up().await?;
        let options = &self.tables.options;
        if !options.guards.skip_by_offset() {
            return Ok(());
        }
        // Without the fence, a writer keeps the rows of its partitions until it has written them itself.
        let kept = if options.guards.fence() { BTreeSet::new() } else { self.live.owned() };
        for (partition, next) in telemetry.covered().iter().filter(|(p, _)| !kept.contains(p)) {
            self.live.tail.trim(*partition, *next);
        }
        Ok(())
    }

    /// The newest snapshot of a table that this process knows.
    pub fn snapshot(&self, table: Table) -> Result<Arc<Snapshot>, Error> {
        self.tables.snapshot(table)
    }

    /// Commits the rows that the tail holds now of the partitions that this process owns. A few records of
    /// ingest itself, such as pulses, wait for more, unless this is the `last` flush.
    ///
    /// # Errors
    /// When the store fails. The tail keeps its rows, and the next flush tries again.
    pub async fn flush(&self, last: bool) -> Result<Flushed, Error> {
        flush(&self.tables, &self.live.tail, &self.live.owned(), last).await
    }

    /// Commits events, each with its number in the outbox, to their tables. Repeated deliveries change
    /// nothing.
    ///
    /// # Errors
    /// When the store fails. Delivering them again is safe.
    pub async fn deliver(&self, events: &[(i64, Event)]) -> Result<(), Error> {
        events::deliver(&self.tables, events).await
    }
}

/// Reading: views for queries, and the questions that the stream itself asks.
impl Lake {
    /// What a query sees from now on. A hot view contains all rows that were read from the log, any other
    /// only those of the tables.
    pub fn view(&self, hot: bool) -> Result<View, Error> {
        self.reader.view(hot)
    }

    /// `telemetry` at a version, without a tail; the only table of the view. Old versions can be read for
    /// as long as [`Self::clean`] keeps their files.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoVersion`] if there is no such version, or not any more.
    pub async fn view_at(&self, version: i64) -> Result<View, Error> {
        self.reader.view_at(version).await
    }

    /// The stored times of device days, in tables and tail: what [`crate::Dedup`] asks for.
    pub async fn stored_times(
        &self,
        table: Table,
        wanted: &HashSet<DeviceDay>,
    ) -> Result<HashMap<DeviceDay, Vec<Micros>>, Error> {
        self.reader.stored_times(table, wanted).await
    }

    /// The committed readings of a partition's records from one offset up to another, in log order. A
    /// stream that is behind the lake would decode those records to the same rows.
    pub async fn stored_readings(
        &self,
        partition: u32,
        from: i64,
        to: i64,
    ) -> Result<RecordBatch, Error> {
        self.reader.stored_readings(partition, from..to).await
    }

    /// The newest `ts` of each device among the committed readings of a partition before an offset,
    /// leaving out readings from wrong clocks.
    pub async fn newest_before(
        &self,
        partition: u32,
        offset: i64,
    ) -> Result<HashMap<Arc<str>, Micros>, Error> {
        self.reader.newest_before(&self.live.newest, partition, offset).await
    }

    /// A device's readings from one time up to another, in tables and tail, by time; and whether there are
    /// more than were returned.
    pub async fn device_readings(
        &self,
        device_id: &str,
        from: Micros,
        to: Micros,
    ) -> Result<(RecordBatch, bool), Error> {
        self.reader.device_readings(device_id, from..to).await
    }

    /// The readings of devices at given times, in tables and tail.
    pub async fn readings_at(
        &self,
        wanted: &BTreeMap<Arc<str>, BTreeSet<Micros>>,
    ) -> Result<Vec<RecordBatch>, Error> {
        self.reader.readings_at(wanted).await
    }

    /// The times of devices' readings in order, in tables and tail, each from `span` before the given time
    /// up to that time; without readings from wrong clocks.
    pub async fn times_up_to(
        &self,
        wanted: &[(Arc<str>, Micros)],
        span: Micros,
    ) -> Result<HashMap<Arc<str>, Vec<Micros>>, Error> {
        self.reader.times_up_to(wanted, span).await
    }

    /// The times of a device's readings from one time up to another, in tables and tail, in order; without
    /// readings from wrong clocks. Only the `last` ones of them.
    pub async fn device_times(
        &self,
        device_id: &str,
        from: Micros,
        to: Micros,
        last: usize,
    ) -> Result<Vec<Micros>, Error> {
        self.reader.device_times(device_id, from..to, last).await
    }

    /// The ledger's rows of a partition from an offset on.
    pub async fn ledger_from(&self, partition: u32, from: i64) -> Result<Vec<LedgerRow>, Error> {
        self.reader.ledger_from(partition, from).await
    }

    /// The number of a table's rows for each of a partition's records, from one offset up to another.
    pub async fn rows_by_offset(
        &self,
        table: Table,
        partition: u32,
        from: i64,
        to: i64,
    ) -> Result<HashMap<i64, i64>, Error> {
        self.reader.rows_by_offset(table, partition, from..to).await
    }

    /// The approximate number of committed rows of the UTC day of a time.
    pub fn rows_of_day(&self, table: Table, at: Micros) -> Result<usize, Error> {
        self.reader.rows_of_day(table, at)
    }

    /// Dead letters in tables and tail, in log order.
    pub async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>, Error> {
        self.reader.dead_letters(filter).await
    }
}

/// Rollups: following `telemetry`, and recomputing what has changed since.
impl Lake {
    /// Brings the rollups one step nearer to `telemetry`; none if there is nothing to do. Only one process
    /// may do this at a time.
    ///
    /// # Errors
    /// When the store fails, or another writer was faster. The next step repeats the work.
    pub async fn roll_up(&self, zones: &Zones) -> Result<Option<RolledUp>, Error> {
        self.rollups.step(zones).await
    }

    /// Whether the rollups contain all readings that `telemetry` had when building them began.
    pub async fn rollups_are_built(&self) -> Result<bool, Error> {
        self.rollups.are_built().await
    }

    /// Which readings of a device are in no rollup yet; none while history is being built.
    pub async fn not_rolled_up(&self, device_id: &str) -> Result<Option<NotRolledUp>, Error> {
        self.rollups.not_rolled_up(device_id).await
    }

    /// Recomputes all buckets of devices whose readings still exist, because the limits of their counters
    /// have changed.
    pub async fn recount(&self, devices: &[Arc<str>], zones: &Zones) -> Result<(), Error> {
        self.rollups.recount(devices, zones).await
    }

    /// Devices whose stored days were computed for another time zone than they have now.
    pub async fn devices_to_rezone(&self, zones: &Zones) -> Result<Vec<Arc<str>>, Error> {
        self.rollups.devices_to_rezone(zones).await
    }

    /// Recomputes all days of devices, because their time zone has changed.
    pub async fn rezone(&self, devices: &[Arc<str>], zones: &Zones) -> Result<(), Error> {
        self.rollups.rezone(devices, zones).await
    }

    /// Looks up in heartbeats when meters were replaced, for `counter_delta`, unless that was done a
    /// moment ago. If it fails, what was known before stays.
    pub async fn refresh_meter_changes(&self, now: Micros) {
        self.rollups.refresh_meter_changes(now).await;
    }
}

/// Upkeep: none of it changes what a query sees, but for days that retention removes.
impl Lake {
    /// Merges the files that are due; none if there are none. Rows and offsets do not change.
    ///
    /// # Errors
    /// When the store fails. Nothing has changed then.
    pub async fn compact(
        &self,
        policy: CompactionPolicy,
        now: Micros,
    ) -> Result<Option<Compacted>, Error> {
        compaction::compact(&self.tables, self.engine(), policy, now).await
    }

    /// Removes the days of a table before one, given in days since 1970-01-01. The commit records the time
    /// `now`. Older versions have the rows until [`Self::clean`] deletes the files.
    ///
    /// # Errors
    /// When the store fails, or another writer was faster. Nothing has changed then.
    pub async fn retain(&self, table: Table, before: i32, now: Micros) -> Result<Retained, Error> {
        retention::retain(&self.tables, table, before, now).await
    }

    /// When days of a table were last removed. Rows from before may be missing for that reason.
    pub async fn retained_at(&self, table: Table) -> Result<Option<Micros>, Error> {
        retention::retained_at(&self.tables, table).await
    }

    /// The newest day of a table, in days since 1970-01-01.
    #[must_use]
    pub fn newest_day(&self, table: Table) -> Option<i32> {
        self.snapshot(table).ok()?.data_files().map(|file| file.day).max()
    }

    /// Deletes what no version younger than `keep` needs. `keep` must be longer than any query reads and
    /// any flush writes.
    ///
    /// # Errors
    /// When the store fails. What is needed is untouched.
    pub async fn clean(&self, keep: Duration) -> Result<Cleaned, Error> {
        cleaning::clean(&self.tables, keep).await
    }

    /// Reads the files of the newest snapshots, the newest days first, for a limited time. Returns the
    /// paths of damaged files below the lake.
    ///
    /// # Errors
    /// When the store is away, which says nothing about the files.
    pub async fn damaged_files(&self, time: Duration) -> Result<Vec<String>, Error> {
        inspection::damaged_files(&self.tables, time).await
    }
}
