//! The lake as a whole: its tables, its tail, and the views that queries read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use acuvim_schemas::{
    tables::Table,
    time::{DAY, Micros},
};
use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use datafusion::prelude::{col, lit};
use futures::TryStreamExt as _;
use object_store::path::Path;
use url::Url;

use crate::{
    Engine, Error, ErrorKind, Latest, Newest, Snapshot, Tail, TailBatch, UnionTable, View, Wanted,
    rollup::Seen,
    store,
    table::{LakeTable, table_url},
    tail::beyond,
    writer::column,
};

/// Where a lake is and what log it belongs to.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// The folder of the tables: `file://` or `s3://`.
    pub url: Url,
    /// Partitions of the log.
    pub partitions: u32,
    /// The log's epoch.
    pub epoch: i32,
    /// Skip rows that a table's offsets say it has. Off only to prove that it matters.
    pub skip_by_offset: bool,
    /// Write nothing that another writer has written. Off only to prove that it matters.
    pub fence: bool,
    /// How far ahead of its arrival a reading may be and still be its device's latest.
    pub max_ahead: Micros,
}

/// See the crate.
#[derive(Debug)]
pub struct Lake {
    pub(crate) tables: BTreeMap<&'static str, Arc<LakeTable>>,
    pub(crate) options: LakeOptions,
    pub(crate) engine: Engine,
    /// Partitions whose rows this process writes.
    owned: Mutex<BTreeSet<u32>>,
    tail: Tail,
    latest: Latest,
    arrivals: crate::Arrivals,
    newest: Newest,
    newest_heartbeats: Newest,
    /// The rollups are built, which they stay.
    pub(crate) rolled_up: AtomicBool,
    /// What the rollups have seen, at a version of theirs.
    pub(crate) seen: tokio::sync::Mutex<Option<(i64, Seen)>>,
    /// The files that they had not, when the table was opened.
    pub(crate) missed: tokio::sync::OnceCell<Option<Arc<HashSet<Path>>>>,
    /// When it was last learnt which meters took each other's place.
    pub(crate) learnt_changes: tokio::sync::Mutex<Option<Instant>>,
}

impl Lake {
    /// Opens every table and makes what is missing. No partition is followed or written yet.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] when the URL can't be used, [`ErrorKind::Unavailable`] when the store
    /// is away.
    pub async fn open(options: LakeOptions, engine: Engine) -> Result<Self, Error> {
        let mut tables = BTreeMap::new();
        store::register();
        if store::is_s3(&options.url) {
            let first = table_url(&options.url, Table::Telemetry)?;
            store::check_conditional_puts(&first).await?;
        }
        for table in Table::ALL {
            let log = (options.epoch, options.partitions);
            let url = table_url(&options.url, table)?;
            store::keep_commits(&url).await?;
            let opened = LakeTable::open(url, table, log).await?;
            tables.insert(table.name(), Arc::new(opened));
        }
        let (tail, newest) = (Tail::new(options.partitions), Newest::new(options.partitions));
        let newest_heartbeats = Newest::new(options.partitions);
        let latest = Latest::new(options.partitions, options.max_ahead);
        let (owned, rolled_up) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self {
            tables,
            options,
            engine,
            owned,
            tail,
            latest,
            arrivals: crate::Arrivals::default(),
            newest,
            newest_heartbeats,
            rolled_up,
            seen: tokio::sync::Mutex::default(),
            missed: tokio::sync::OnceCell::new(),
            learnt_changes: tokio::sync::Mutex::default(),
        })
    }

    /// The log's epoch that it is written from.
    #[must_use]
    pub const fn epoch(&self) -> i32 {
        self.options.epoch
    }

    /// The rows that are not in the tables yet.
    #[must_use]
    pub const fn tail(&self) -> &Tail {
        &self.tail
    }

    /// What its queries and merges run on.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The latest reading of every device that is followed.
    #[must_use]
    pub const fn latest(&self) -> &Latest {
        &self.latest
    }

    /// What has just arrived, for whoever shows it live.
    #[must_use]
    pub const fn arrivals(&self) -> &crate::Arrivals {
        &self.arrivals
    }

    /// Adds what the next records of a partition came to, to the tail and to what is latest.
    ///
    /// # Errors
    /// Only if rows and schemas have come apart.
    pub fn push(&self, partition: u32, batch: TailBatch) -> Result<(), Error> {
        let changed = self.latest.note(&batch.rows.telemetry)?;
        let heartbeats = batch.rows.heartbeats.clone();
        self.tail.push(partition, batch);
        match self.arrivals.is_listened_to() {
            true => self.arrivals.note(changed, &heartbeats),
            false => Ok(()),
        }
    }

    /// The newest `ts` of every device.
    #[must_use]
    pub const fn newest(&self) -> &Newest {
        &self.newest
    }

    /// The time of every device's newest heartbeat.
    #[must_use]
    pub const fn newest_heartbeats(&self) -> &Newest {
        &self.newest_heartbeats
    }

    /// Begins to follow partitions from where `telemetry` is: their tails start there, and the
    /// newest `ts` of their devices are learnt of exactly that version.
    ///
    /// # Errors
    /// When the store fails; the partitions are then not followed.
    pub async fn follow(&self, partitions: &BTreeSet<u32>) -> Result<(), Error> {
        self.catch_up().await?;
        let snapshot = self.snapshot(Table::Telemetry)?;
        for partition in partitions {
            self.latest.forget(*partition);
            self.newest.forget(*partition);
            self.newest_heartbeats.forget(*partition);
        }
        self.learn_readings(&snapshot, partitions).await?;
        self.learn_heartbeats(partitions).await?;
        for partition in partitions {
            self.tail.start(*partition, self.covered(&snapshot, *partition));
        }
        Ok(())
    }

    /// Stops following a partition: its rows beyond the tables are in no view any more.
    pub fn unfollow(&self, partition: u32) {
        self.own(partition, false);
        self.tail.stop(partition);
        self.latest.forget(partition);
        self.newest.forget(partition);
        self.newest_heartbeats.forget(partition);
    }

    /// Says whether flushes write a partition that is followed. The rows are the same whoever
    /// writes them, since they are a function of the log and the tables alone.
    pub fn own(&self, partition: u32, own: bool) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        if own {
            owned.insert(partition);
        } else {
            owned.remove(&partition);
        }
    }

    pub(crate) fn owned(&self) -> BTreeSet<u32> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rows in the tail that this process has yet to write.
    #[must_use]
    pub fn rows_owed(&self) -> usize {
        self.owned().into_iter().map(|partition| self.tail.rows(partition)).sum()
    }

    /// Where the stream goes on: the next offset that `telemetry` does not cover.
    #[must_use]
    pub fn next_offset(&self, partition: u32) -> i64 {
        self.snapshot(Table::Telemetry).map_or(0, |snapshot| self.covered(&snapshot, partition))
    }

    /// The next offset that a table does not cover.
    #[must_use]
    pub fn next_offset_of(&self, table: Table, partition: u32) -> i64 {
        self.snapshot(table).map_or(0, |snapshot| self.covered(&snapshot, partition))
    }

    fn covered(&self, snapshot: &Snapshot, partition: u32) -> i64 {
        if !self.options.skip_by_offset {
            return 0;
        }
        snapshot.covered().get(&partition).copied().unwrap_or(0)
    }

    /// Learns of what other processes have committed, and lets go of rows that the tables have.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn catch_up(&self) -> Result<(), Error> {
        // `telemetry` commits last: what it covers the other tables have by then.
        let telemetry = self.table(Table::Telemetry)?.catch_up().await?;
        for table in self.tables.values().filter(|t| t.table != Table::Telemetry) {
            table.catch_up().await?;
        }
        if !self.options.skip_by_offset {
            return Ok(());
        }
        // Without the fence a writer holds on to what it has read until it has written it itself.
        let kept = if self.options.fence { BTreeSet::new() } else { self.owned() };
        for (partition, next) in telemetry.covered().iter().filter(|(p, _)| !kept.contains(p)) {
            self.tail.trim(*partition, *next);
        }
        Ok(())
    }

    /// The newest snapshot of a table.
    ///
    /// # Errors
    /// Never for a table of [`Table::ALL`].
    pub fn snapshot(&self, table: Table) -> Result<Arc<Snapshot>, Error> {
        Ok(self.table(table)?.current())
    }

    /// What a query sees from now on. Hot, it has every row read from the log so far; otherwise
    /// what the tables have.
    ///
    /// # Errors
    /// Only if rows and schemas have come apart.
    pub fn view(&self, hot: bool) -> Result<View, Error> {
        // The tail first: a flush in between then shows its rows twice here, and the cut removes
        // one of them. The other way round they could be in neither.
        let (tail, next) = if hot {
            // The offsets before the rows: a watermark never claims rows that are not there.
            let next = self.tail.next_offsets();
            (self.tail.batches(), next)
        } else {
            (Vec::new(), Vec::new())
        };
        self.view_of(&tail, &next)
    }

    fn view_of(&self, tail: &[Vec<TailBatch>], next: &[Option<i64>]) -> Result<View, Error> {
        let mut tables = Vec::with_capacity(self.tables.len());
        for table in self.tables.values() {
            let snapshot = table.current();
            let rows = beyond(table.table, tail, snapshot.covered(), &|_| true)?;
            tables.push((Arc::clone(table), snapshot, rows));
        }
        let telemetry = self.table(Table::Telemetry)?.table;
        let at = tables.iter().find(|(t, ..)| t.table == telemetry).map(|(_, s, _)| Arc::clone(s));
        let at = at.ok_or_else(no_table)?;
        let reach = |partition: u32| {
            let read = usize::try_from(partition).ok().and_then(|p| next.get(p).copied().flatten());
            let stored = at.covered().get(&partition).copied().unwrap_or(0);
            read.unwrap_or(stored).max(stored)
        };
        Ok(View {
            version: at.version(),
            watermark: (0..self.options.partitions).map(reach).collect(),
            tables: tables
                .into_iter()
                .map(|(table, snapshot, rows)| Arc::new(UnionTable::new(table, snapshot, rows)))
                .collect(),
        })
    }

    /// The stored times, in lake and tail, of devices' days: what [`crate::Dedup`] asks for.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn stored_times(
        &self,
        table: Table,
        wanted: &std::collections::HashSet<Wanted>,
    ) -> Result<HashMap<Wanted, Vec<Micros>>, Error> {
        let mut by_day: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
        for (device, day) in wanted {
            by_day.entry(*day).or_default().push(device);
        }
        let mut found: HashMap<Wanted, Vec<Micros>> =
            wanted.iter().map(|w| (w.clone(), Vec::new())).collect();
        let rows_of = self.view(true)?.table(table).ok_or_else(no_table)?;
        for (day, devices) in by_day {
            let start = timestamp(i64::from(day) * DAY);
            let end = timestamp((i64::from(day) + 1) * DAY);
            let devices = devices.into_iter().map(lit).collect();
            let rows = self
                .engine
                .session()
                .read_table(Arc::clone(&rows_of) as _)?
                .filter(col("ts").gt_eq(start).and(col("ts").lt(end)))?
                .filter(col("device_id").in_list(devices, false))?
                .select_columns(&["device_id", "ts"])?
                .execute_stream()
                .await?;
            let rows: Vec<RecordBatch> = rows.try_collect().await?;
            for (device, ts) in device_times(&rows)? {
                if let Some(times) = found.get_mut(&(device.into(), day)) {
                    times.push(ts);
                }
            }
        }
        Ok(found)
    }

    pub(crate) fn table(&self, table: Table) -> Result<&Arc<LakeTable>, Error> {
        self.tables.get(table.name()).ok_or_else(no_table)
    }
}

/// The pairs of `device_id` and `ts` in batches that have them.
pub(crate) fn device_times(rows: &[RecordBatch]) -> Result<Vec<(&str, Micros)>, Error> {
    let mut pairs = Vec::with_capacity(rows.iter().map(RecordBatch::num_rows).sum());
    for batch in rows {
        let devices = column(batch, "device_id")?.as_string::<i32>();
        let times = column(batch, "ts")?.as_primitive::<TimestampMicrosecondType>();
        pairs.extend(devices.iter().flatten().zip(times.values().iter().copied()));
    }
    Ok(pairs)
}

/// A time as the engine's literal.
#[must_use]
pub fn timestamp(micros: Micros) -> datafusion::logical_expr::Expr {
    lit(datafusion::common::ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

pub(crate) fn no_table() -> Error {
    Error::new(ErrorKind::Internal, "the lake has no such table")
}
