//! Commits: rows and the offsets that they cover become visible together or not at all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use acuvim_tables::DATE;
use deltalake::{
    DeltaTableError,
    kernel::{
        Action, Add, Transaction,
        transaction::{CommitBuilder, CommitProperties},
    },
    protocol::{DeltaOperation, SaveMode},
    table::state::DeltaTableState,
};
use tokio::sync::MutexGuard;

use super::{
    snapshot::{Covered, Snapshot},
    store,
    table::LakeTable,
};
use crate::error::Error;

/// How far one commit moves the offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The first offset not covered, as this writer last saw it.
    pub expected: Option<i64>,
    /// The first offset not covered after this commit.
    pub next: i64,
}

/// The outcome of a commit.
#[derive(Debug)]
pub(crate) enum Committed {
    /// The files are in the table, once.
    Done,
    /// Nothing was committed, because another writer has moved this partition.
    Overtaken(u32),
}

/// A commit that removes files, and may add others in their place.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub removes: Vec<Action>,
    pub adds: Vec<Add>,
    /// The offsets that the commit moves.
    pub covered: Covered,
    /// Further transactions that it records.
    pub transactions: Vec<Transaction>,
    pub operation: DeltaOperation,
}

impl LakeTable {
    /// Adds files and moves offsets, provided that the offset of every partition is as expected.
    ///
    /// An error means that nothing was committed: failures that could hide a success are looked into
    /// before this returns.
    pub async fn append(
        &self,
        adds: Vec<Add>,
        steps: &BTreeMap<u32, Step>,
    ) -> Result<Committed, Error> {
        // One commit of this process at a time. Otherwise two of them would conflict with each
        // other and be tried again for nothing.
        let _committing = self.committing.lock().await;
        let base = self.current();
        if let Some(partition) = overtaken(&base.covered, steps) {
            return Ok(Committed::Overtaken(partition));
        }
        // Two processes that move the same partition conflict here: delta-rs refuses the second commit with
        // a transaction of the same app id. The version is the last offset that is covered.
        let transactions = steps
            .iter()
            .map(|(partition, step)| Transaction::new(self.app_id(*partition), step.next - 1))
            .collect();
        let paths: Vec<String> = adds.iter().map(|add| add.path.clone()).collect();
        let actions = adds.into_iter().map(Action::Add).collect();
        match self.commit(&base, actions, transactions, append_operation()).await {
            Ok(state) => {
                let mut covered = base.covered.clone();
                covered.extend(steps.iter().map(|(p, s)| (*p, s.next)));
                self.settle(&base, state, covered).await?;
                Ok(Committed::Done)
            }
            Err(error) => self.look_up_outcome(&base, steps, &paths, error).await,
        }
    }

    /// Adds files together with the next transaction of an app id. A commit that loses against another
    /// one of this app id, or whose outcome is unknown, is an error: before trying again, the caller
    /// asks [`Self::transaction`].
    pub async fn append_once(
        &self,
        adds: Vec<Add>,
        app_id: String,
        version: i64,
    ) -> Result<(), Error> {
        let _committing = self.committing.lock().await;
        let base = self.current();
        let actions = adds.into_iter().map(Action::Add).collect();
        let transactions = vec![Transaction::new(app_id, version)];
        match self.commit(&base, actions, transactions, append_operation()).await {
            Ok(state) => self.settle(&base, state, base.covered.clone()).await,
            Err(error) => {
                // Whoever was faster is in the snapshot now, so the caller's next attempt sees it.
                self.refresh(&base).await?;
                Err(error.into())
            }
        }
    }

    /// Replaces files that were chosen from the snapshot `base`.
    ///
    /// The guard of [`Self::committing`] is passed in because retention takes it before it chooses.
    pub async fn replace(
        &self,
        _committing: &MutexGuard<'_, ()>,
        base: &Snapshot,
        replacement: Replacement,
    ) -> Result<(), Error> {
        let Replacement { removes, adds, covered: moved, transactions: more, operation } =
            replacement;
        let actions = removes.into_iter().chain(adds.into_iter().map(Action::Add)).collect();
        // delta-rs would let two commits that remove the same files both succeed. A transaction under
        // an app id that all such commits share makes the second one fail.
        let mut transactions = vec![Transaction::new(self.rewrite_id(), base.version())];
        let covers = |(p, next): (&u32, &i64)| Transaction::new(self.app_id(*p), next - 1);
        transactions.extend(moved.iter().map(covers));
        transactions.extend(more);
        // Not `base`: appends since then have moved offsets that this commit must keep.
        let newest = self.current();
        match self.commit(base, actions, transactions, operation).await {
            Ok(state) => {
                let mut covered = newest.covered.clone();
                covered.extend(moved);
                self.settle(&newest, state, covered).await
            }
            Err(error) => {
                self.refresh(&newest).await?;
                Err(error.into())
            }
        }
    }

    async fn commit(
        &self,
        base: &Snapshot,
        actions: Vec<Action>,
        transactions: Vec<Transaction>,
        operation: DeltaOperation,
    ) -> Result<DeltaTableState, DeltaTableError> {
        let properties = properties().with_application_transactions(transactions);
        let commit = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(&base.state), Arc::clone(&self.log_store), operation)
            .await?;
        Ok(commit.snapshot())
    }

    /// The app id of all commits that remove files.
    fn rewrite_id(&self) -> String {
        format!("compaction:{}", self.kind.name())
    }

    /// Finds out whether a commit that reported failure has succeeded.
    ///
    /// It can have, even if it reported a conflict: when the store's answer was lost, the retry
    /// conflicts with the commit itself. The names of its files are unique, so they tell. Until the
    /// store answers, no other commit of this process may start.
    async fn look_up_outcome(
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
                    tracing::info!(%again, "the outcome of a commit is not known yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        };
        let reached = steps.iter().all(|(p, s)| now.covered.get(p).is_some_and(|c| *c >= s.next));
        let has = |path: &String| now.files.iter().any(|f| f.meta.location.as_ref() == path);
        if reached && paths.iter().all(has) {
            // The failure may have been that of syncing its directory entry.
            store::sync_commits(self.log_store.root_url()).await?;
            return Ok(Committed::Done);
        }
        match overtaken(&now.covered, steps) {
            Some(partition) => Ok(Committed::Overtaken(partition)),
            None => Err(error.into()),
        }
    }
}

fn append_operation() -> DeltaOperation {
    DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: Some(vec![DATE.to_owned()]),
        predicate: None,
    }
}

/// The first partition whose offset is not what its step expects.
fn overtaken(covered: &Covered, steps: &BTreeMap<u32, Step>) -> Option<u32> {
    steps.iter().find(|(p, s)| covered.get(p).copied() != s.expected).map(|(p, _)| *p)
}

/// Properties of every commit. Expired commits are left to cleaning, since removing them here would
/// list the whole log each time.
pub(crate) fn properties() -> CommitProperties {
    CommitProperties::default().with_create_checkpoint(true).with_cleanup_expired_logs(Some(false))
}

#[cfg(test)]
mod tests;
