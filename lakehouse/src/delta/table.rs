//! One Delta table: its newest snapshot, and how that follows the commits of all processes.

use std::sync::{Arc, PoisonError, RwLock};

use acuvim_tables::Table;
use deltalake::{DeltaTable, logstore::LogStoreRef, table::state::DeltaTableState};
use url::Url;

use super::{
    cooldown::CompactionCooldown,
    create::{check_schema, open_or_create},
    schema_evolution::add_missing_columns,
    snapshot::{Covered, Snapshot},
};
use crate::error::{Error, ErrorKind, store_is_away};

/// The log that the rows of a table come from. Offsets of one log mean nothing in another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceLog {
    pub epoch: i32,
    pub partitions: u32,
}

/// A Delta table of the lake.
#[derive(Debug)]
pub(crate) struct LakeTable {
    pub kind: Table,
    pub log_store: LogStoreRef,
    log: SourceLog,
    /// The version at which this process opened the table.
    pub opened_at: i64,
    /// Replaced as a whole: a query keeps its snapshot while commits go on.
    current: RwLock<Arc<Snapshot>>,
    /// Files that compaction skips for a while.
    pub cooldown: CompactionCooldown,
    /// Held during a commit, so that those of this process come one by one, each on the newest
    /// snapshot.
    pub committing: tokio::sync::Mutex<()>,
    /// Held by whoever removes files, from choosing them until the commit. Otherwise compaction and
    /// retention of one process would often choose the same files, and one of them would fail.
    pub removing: tokio::sync::Mutex<()>,
}

impl LakeTable {
    /// Opens the table at a URL, or creates it there.
    pub async fn open(url: Url, kind: Table, log: SourceLog) -> Result<Self, Error> {
        let delta = add_missing_columns(open_or_create(url, kind).await?, kind).await?;
        let log_store = delta.log_store();
        let state = delta.state.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("{} opened without a state", kind.name()))
        })?;
        check_schema(kind, &state)?;
        // Read before the table is used: writing from a wrong offset would store records twice.
        let covered = read_covered(&state, &log_store, kind, log).await?;
        let snapshot = Snapshot::new(kind, state, covered, None)?;
        measure(kind, &snapshot);
        let opened_at = snapshot.version();
        Ok(Self {
            kind,
            log_store,
            log,
            opened_at,
            current: RwLock::new(Arc::new(snapshot)),
            cooldown: CompactionCooldown::default(),
            committing: tokio::sync::Mutex::new(()),
            removing: tokio::sync::Mutex::new(()),
        })
    }

    /// The newest snapshot that this process knows.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The table at an older version.
    pub async fn at(&self, version: i64) -> Result<Arc<Snapshot>, Error> {
        let current = self.current();
        let none = || {
            let text = format!(
                "{} has no version {version}, or not any more: the newest is {}",
                self.kind.name(),
                current.version()
            );
            Error::new(ErrorKind::NoVersion, text)
        };
        let version = u64::try_from(version).ok().filter(|v| *v <= current.state.version());
        let mut delta = DeltaTable::new(Arc::clone(&self.log_store));
        let loaded = delta.load_version(version.ok_or_else(none)?).await;
        // A store that does not answer is no evidence that the version is gone.
        loaded.map_err(|error| if store_is_away(&error) { error.into() } else { none() })?;
        let state = delta.state.ok_or_else(none)?;
        let covered = self.covered_of(&state).await?;
        Ok(Arc::new(Snapshot::new(self.kind, state, covered, Some(&current))?))
    }

    /// The version of the last transaction that a commit recorded under an app id.
    pub async fn transaction(&self, app_id: &str) -> Result<Option<i64>, Error> {
        let state = self.current().state.clone();
        Ok(state.transaction_version(self.log_store.as_ref(), app_id.to_owned()).await?)
    }

    /// Reads commits that other processes have made. Without any, this is one small read, and no
    /// listing of the log.
    pub async fn catch_up(&self) -> Result<Arc<Snapshot>, Error> {
        // Otherwise a commit of this process could be replaced by the older snapshot that is read here.
        let _committing = self.committing.lock().await;
        let base = self.current();
        let next = base.state.version() + 1;
        match self.log_store.read_commit_entry(next).await? {
            Some(_) => self.refresh(&base).await,
            None => Ok(base),
        }
    }

    /// Makes the newest version the current snapshot.
    pub async fn refresh(&self, base: &Snapshot) -> Result<Arc<Snapshot>, Error> {
        let mut state = base.state.clone();
        state.update(self.log_store.as_ref(), None).await?;
        let covered = self.covered_of(&state).await?;
        self.install(state, covered)
    }

    /// Makes the state after a commit of this process the current snapshot. `covered` holds if nobody
    /// else has committed since `base`. Otherwise it is read from the table.
    pub(super) async fn settle(
        &self,
        base: &Snapshot,
        state: DeltaTableState,
        covered: Covered,
    ) -> Result<(), Error> {
        // delta-rs rebases a commit over those of others, so the new version can contain more than
        // this one.
        let alone = state.version() == base.state.version() + 1;
        let covered = if alone { covered } else { self.covered_of(&state).await? };
        self.install(state, covered).map(|_| ())
    }

    fn install(&self, state: DeltaTableState, covered: Covered) -> Result<Arc<Snapshot>, Error> {
        let next = Arc::new(Snapshot::new(self.kind, state, covered, Some(&self.current()))?);
        measure(self.kind, &next);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        Ok(next)
    }

    async fn covered_of(&self, state: &DeltaTableState) -> Result<Covered, Error> {
        read_covered(state, &self.log_store, self.kind, self.log).await
    }

    /// The app id under which commits record how far a partition is covered.
    pub(super) fn app_id(&self, partition: u32) -> String {
        app_id(self.kind, self.log.epoch, partition)
    }
}

fn measure(table: Table, snapshot: &Snapshot) {
    let table = table.name();
    metrics::gauge!("acuvim_lake_version", "table" => table).set(snapshot.version() as f64);
    metrics::gauge!("acuvim_lake_files", "table" => table).set(snapshot.file_count() as f64);
    metrics::gauge!("acuvim_lake_bytes", "table" => table).set(snapshot.bytes() as f64);
}

fn app_id(table: Table, epoch: i32, partition: u32) -> String {
    format!("{}:{epoch}:{partition}", table.name())
}

/// The offsets that a version of a table covers. Its transactions name the last one of each partition.
pub(super) async fn read_covered(
    state: &DeltaTableState,
    log_store: &LogStoreRef,
    table: Table,
    log: SourceLog,
) -> Result<Covered, Error> {
    let mut covered = Covered::new();
    for partition in 0..log.partitions {
        let id = app_id(table, log.epoch, partition);
        if let Some(last) = state.transaction_version(log_store.as_ref(), id).await? {
            // The transaction names the last offset, `Covered` the first one after it.
            covered.insert(partition, last + 1);
        }
    }
    Ok(covered)
}

#[cfg(test)]
mod tests;
