//! One Delta table: opening it, its snapshots with the offsets they cover, and commits that move
//! rows and offsets together or not at all.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use acuvim_schemas::{
    reading::READINGS,
    tables::{DATE, Table},
};
use deltalake::{
    DeltaTable, DeltaTableError, TableProperty,
    kernel::{
        Action, Add, StructType, Transaction,
        engine::arrow_conversion::TryIntoKernel as _,
        transaction::{CommitBuilder, CommitProperties, TransactionError},
    },
    logstore::LogStoreRef,
    protocol::{DeltaOperation, SaveMode},
    table::state::DeltaTableState,
};
use url::Url;

use crate::{Covered, Error, ErrorKind, Snapshot, delta::cooldown::Aside, grow::grow, store};

/// A partition's step in one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The next offset as this writer believes the table has it.
    pub expected: Option<i64>,
    /// The next offset behind this commit.
    pub next: i64,
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum Committed {
    /// It is in the table, once.
    Done,
    /// It is not: this partition has been moved by another writer.
    Overtaken(u32),
}

/// Where a table lies under the lake's URL.
pub(crate) fn table_url(lake: &Url, table: Table) -> Result<Url, Error> {
    let mut url = lake.clone();
    url.path_segments_mut()
        .map_err(|()| Error::new(ErrorKind::Setup, format!("{lake} (lake.url) has no path")))?
        .pop_if_empty()
        .push(table.name());
    Ok(url)
}

/// One table of the lake.
#[derive(Debug)]
pub(crate) struct LakeTable {
    pub table: Table,
    pub log_store: LogStoreRef,
    epoch: i32,
    partitions: u32,
    /// The version that there was when it was opened.
    pub opened: i64,
    current: RwLock<Arc<Snapshot>>,
    /// Files that compaction leaves alone for a while.
    pub aside: Aside,
    /// Commits of this process go one by one, each on the newest snapshot.
    pub turn: tokio::sync::Mutex<()>,
    /// So do those that take files out, from the snapshot that says which to the commit.
    pub rewriting: tokio::sync::Mutex<()>,
}

impl LakeTable {
    /// Opens a table at its URL; makes it if it is missing.
    pub async fn open(
        url: Url,
        table: Table,
        (epoch, partitions): (i32, u32),
    ) -> Result<Self, Error> {
        let delta = grow(open_or_create(url, table).await?, table).await?;
        let log_store = delta.log_store();
        let state = delta.state.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("{} opened without a state", table.name()))
        })?;
        check_schema(table, &state)?;
        let covered = read_covered(&state, &log_store, table, epoch, partitions).await?;
        let snapshot = Snapshot::new(table, state, covered, None)?;
        measure(table, &snapshot);
        let opened = snapshot.version();
        let current = RwLock::new(Arc::new(snapshot));
        let (turn, rewriting) = (tokio::sync::Mutex::new(()), tokio::sync::Mutex::new(()));
        let aside = Aside::default();
        Ok(Self { table, log_store, epoch, partitions, opened, current, aside, turn, rewriting })
    }

    /// The newest snapshot this process knows.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds files and moves offsets, if every partition's offset is as expected. An error means
    /// that nothing was committed: one that could hide a success is looked into first.
    pub async fn append(
        &self,
        adds: Vec<Add>,
        steps: &BTreeMap<u32, Step>,
    ) -> Result<Committed, Error> {
        let _turn = self.turn.lock().await;
        let base = self.current();
        if let Some(partition) = overtaken(&base.covered, steps) {
            return Ok(Committed::Overtaken(partition));
        }
        let transactions = steps
            .iter()
            .map(|(partition, step)| Transaction::new(self.app_id(*partition), step.next - 1));
        let properties = properties().with_application_transactions(transactions.collect());
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![DATE.to_owned()]),
            predicate: None,
        };
        let paths: Vec<String> = adds.iter().map(|add| add.path.clone()).collect();
        let actions = adds.into_iter().map(Action::Add).collect();
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(&base.state), Arc::clone(&self.log_store), operation)
            .await;
        match committed {
            Ok(commit) => {
                let mut covered = base.covered.clone();
                covered.extend(steps.iter().map(|(p, s)| (*p, s.next)));
                self.settle(&base, commit.snapshot(), covered).await?;
                Ok(Committed::Done)
            }
            Err(error) => self.look_again(&base, steps, &paths, error).await,
        }
    }

    /// The version of an application's last transaction.
    pub async fn transaction(&self, app_id: &str) -> Result<Option<i64>, Error> {
        let state = self.current().state.clone();
        Ok(state.transaction_version(self.log_store.as_ref(), app_id.to_owned()).await?)
    }

    /// Adds files with an application's next transaction. A commit that loses against another of
    /// the same application, or whose fate is not known, is an error: the caller looks at
    /// [`Self::transaction`] before it tries again.
    pub async fn append_once(
        &self,
        adds: Vec<Add>,
        app_id: String,
        version: i64,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let base = self.current();
        let transaction = Transaction::new(app_id, version);
        let properties = properties().with_application_transaction(transaction);
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![DATE.to_owned()]),
            predicate: None,
        };
        let committed = CommitBuilder::from(properties)
            .with_actions(adds.into_iter().map(Action::Add).collect())
            .build(Some(&base.state), Arc::clone(&self.log_store), operation)
            .await;
        match committed {
            Ok(commit) => self.settle(&base, commit.snapshot(), base.covered.clone()).await,
            Err(error) => {
                self.refresh(&base).await?;
                Err(error.into())
            }
        }
    }

    /// Replaces files by others with the same rows.
    pub async fn rewrite(
        &self,
        base: &Snapshot,
        removes: Vec<Action>,
        adds: Vec<Add>,
        target_size: u64,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let mut actions = removes;
        actions.extend(adds.into_iter().map(|mut add| {
            add.data_change = false;
            Action::Add(add)
        }));
        // delta-rs lets two rewrites of the same files both pass; one app id on all of them stops
        // the second.
        let turn = Transaction::new(self.rewrite_id(), base.version());
        let properties = properties().with_application_transaction(turn);
        let target_size = i64::try_from(target_size).unwrap_or(i64::MAX);
        let operation = DeltaOperation::Optimize { predicate: None, target_size };
        let newest = self.current();
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(&base.state), Arc::clone(&self.log_store), operation)
            .await;
        match committed {
            Ok(commit) => {
                let covered = newest.covered.clone();
                self.settle(&newest, commit.snapshot(), covered).await
            }
            Err(error) => {
                self.refresh(&newest).await?;
                Err(error.into())
            }
        }
    }

    /// Makes a committed state the current snapshot. `covered` is right if nobody else committed
    /// since `base`; otherwise the table is asked.
    pub async fn settle(
        &self,
        base: &Snapshot,
        state: DeltaTableState,
        covered: Covered,
    ) -> Result<(), Error> {
        let alone = state.version() == base.state.version() + 1;
        let covered = if alone { covered } else { self.covered_of(&state).await? };
        self.install(state, covered).map(|_| ())
    }

    /// Makes a state the current snapshot.
    fn install(&self, state: DeltaTableState, covered: Covered) -> Result<Arc<Snapshot>, Error> {
        let next = Snapshot::new(self.table, state, covered, Some(&self.current()))?;
        let next = Arc::new(next);
        measure(self.table, &next);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        Ok(next)
    }

    /// Learns of commits that other processes have made since.
    ///
    /// One small read when there are none, and no listing.
    pub async fn catch_up(&self) -> Result<Arc<Snapshot>, Error> {
        let _turn = self.turn.lock().await;
        let base = self.current();
        let next = base.state.version() + 1;
        match self.log_store.read_commit_entry(next).await? {
            Some(_) => self.refresh(&base).await,
            None => Ok(base),
        }
    }

    pub async fn refresh(&self, base: &Snapshot) -> Result<Arc<Snapshot>, Error> {
        let mut state = base.state.clone();
        state.update(self.log_store.as_ref(), None).await?;
        let covered = self.covered_of(&state).await?;
        self.install(state, covered)
    }

    /// A commit that reports failure may have succeeded, even one that reports a conflict: with
    /// itself, after a store's answer was lost. Its files, whose names are its own, tell. Until the
    /// store answers, nobody else may commit.
    async fn look_again(
        &self,
        base: &Snapshot,
        steps: &BTreeMap<u32, Step>,
        paths: &[String],
        error: DeltaTableError,
    ) -> Result<Committed, Error> {
        let mut pause = Duration::from_millis(100);
        let now = loop {
            match self.refresh(base).await {
                Ok(now) => break now,
                Err(again) => {
                    tracing::info!(%again, "a commit's fate is not known yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        };
        let reached = steps.iter().all(|(p, s)| now.covered.get(p).is_some_and(|c| *c >= s.next));
        let has = |path: &String| now.files.iter().any(|f| f.meta.location.as_ref() == path);
        if reached && paths.iter().all(has) {
            // It may have failed because its name is not on the disk.
            store::keep_commits(self.log_store.root_url()).await?;
            return Ok(Committed::Done);
        }
        match overtaken(&now.covered, steps) {
            Some(partition) => Ok(Committed::Overtaken(partition)),
            None => Err(error.into()),
        }
    }

    pub async fn covered_of(&self, state: &DeltaTableState) -> Result<Covered, Error> {
        read_covered(state, &self.log_store, self.table, self.epoch, self.partitions).await
    }

    /// The app id of what takes files out of the table.
    pub fn rewrite_id(&self) -> String {
        format!("compaction:{}", self.table.name())
    }

    /// The app id of a partition's offsets.
    pub fn app_id(&self, partition: u32) -> String {
        app_id(self.table, self.epoch, partition)
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

/// The first partition whose offset is not what its step expects.
fn overtaken(covered: &Covered, steps: &BTreeMap<u32, Step>) -> Option<u32> {
    steps.iter().find(|(p, s)| covered.get(p).copied() != s.expected).map(|(p, _)| *p)
}

/// The log is cleaned by upkeep: doing so at every commit would list the whole of it.
pub(crate) fn properties() -> CommitProperties {
    CommitProperties::default().with_create_checkpoint(true).with_cleanup_expired_logs(Some(false))
}

pub(crate) async fn read_covered(
    state: &DeltaTableState,
    log_store: &LogStoreRef,
    table: Table,
    epoch: i32,
    partitions: u32,
) -> Result<Covered, Error> {
    let mut covered = Covered::new();
    for partition in 0..partitions {
        let id = app_id(table, epoch, partition);
        if let Some(last) = state.transaction_version(log_store.as_ref(), id).await? {
            covered.insert(partition, last + 1);
        }
    }
    Ok(covered)
}

async fn open_or_create(url: Url, table: Table) -> Result<DeltaTable, Error> {
    let local = url.scheme() == "file";
    let failed = |e: DeltaTableError| match Error::from(e) {
        // A folder that can't be used does not get better by waiting.
        error if local => Error::new(
            ErrorKind::Setup,
            format!("{} (lake.url) can't be opened: {error}", table.name()),
        ),
        error => error,
    };
    let url = deltalake::ensure_table_uri(url.as_str()).map_err(failed)?;
    let mut delta = DeltaTable::try_from_url(url).await.map_err(failed)?;
    if delta.version().is_some() {
        return Ok(delta);
    }
    let columns: StructType = table.schema().as_ref().try_into_kernel()?;
    let created = delta
        .clone()
        .create()
        .with_table_name(table.name())
        .with_comment(table.description())
        .with_columns(columns.fields().cloned())
        .with_partition_columns([DATE])
        .with_save_mode(SaveMode::Ignore)
        .with_configuration_property(TableProperty::CheckpointInterval, Some("50"))
        .with_configuration_property(TableProperty::LogRetentionDuration, Some("interval 7 days"))
        .with_configuration_property(
            TableProperty::DataSkippingStatsColumns,
            Some(statistics_columns(table)),
        )
        // A second maker of the table must lose: delta-rs would commit its metadata again.
        .with_commit_properties(CommitProperties::default().with_max_retries(0))
        .await;
    match created {
        Ok(made) => Ok(made),
        Err(DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) }) => {
            delta.load().await?;
            Ok(delta)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The columns whose least and greatest values every file's entry in the Delta log names: what files
/// are pruned by.
fn statistics_columns(table: Table) -> String {
    let schema = table.schema();
    let pruned_by = |name: &&str| {
        table.sort_columns().contains(name)
            || PRUNED_BY.contains(name)
            || READINGS.iter().take(READINGS_PRUNED_BY).any(|r| r.name == *name)
    };
    let names: Vec<&str> =
        schema.fields().iter().map(|f| f.name().as_str()).filter(pruned_by).collect();
    names.join(",")
}

const PRUNED_BY: [&str; 5] = ["received_at", "recorded_at", "epoch", "partition", "offset"];

/// Frequency, voltages, currents and powers: what questions for values out of bounds are about.
const READINGS_PRUNED_BY: usize = 18;

/// The files must have the columns that this version writes.
fn check_schema(table: Table, state: &DeltaTableState) -> Result<(), Error> {
    let stored = state.snapshot().arrow_schema();
    for field in table.schema().fields() {
        let same =
            stored.field_with_name(field.name()).is_ok_and(|f| f.data_type() == field.data_type());
        if !same {
            return Err(Error::new(
                ErrorKind::Setup,
                format!("the table {} has no column {field} (lake.url)", table.name()),
            ));
        }
    }
    Ok(())
}
