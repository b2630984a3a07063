//! Cleaning: deletes data files that no recent version refers to, and commits that a checkpoint covers.

use std::{sync::Arc, time::Duration};

use deltalake::{
    DeltaTable, checkpoints::cleanup_metadata, kernel::CommitInfo, operations::vacuum::VacuumMode,
};
use futures::TryStreamExt as _;

use crate::{
    delta::{commit::properties, table::LakeTable, tables::Tables},
    error::{Error, ErrorKind},
};

/// What a cleaning deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Data files: inputs of merges, and leftovers of failed commits.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Files of the Delta log.
    pub log_files: usize,
}

/// Deletes what no version younger than `keep` needs. `keep` must be longer than any query reads and any
/// flush writes.
pub(crate) async fn clean(tables: &Tables, keep: Duration) -> Result<Cleaned, Error> {
    let mut all = Cleaned::default();
    for table in tables.iter() {
        let cleaned = clean_table(table, keep).await?;
        all.files += cleaned.files;
        all.bytes += cleaned.bytes;
        all.log_files += cleaned.log_files;
    }
    Ok(all)
}

async fn clean_table(table: &LakeTable, keep: Duration) -> Result<Cleaned, Error> {
    let keep = chrono::Duration::from_std(keep).map_err(|e| {
        Error::new(ErrorKind::Setup, format!("the time to keep files: {e}")).caused_by(e)
    })?;
    // Vacuum commits too, and a flush at the same time would only conflict with it.
    let _committing = table.committing.lock().await;
    let base = table.current();
    let mut delta = DeltaTable::new(Arc::clone(&table.log_store));
    delta.state = Some(base.state.clone());
    let vacuumed = delta
        .vacuum()
        .with_retention_period(keep)
        // delta-rs refuses to keep files for less than a week otherwise.
        .with_enforce_retention_duration(false)
        .with_mode(VacuumMode::Full)
        .with_commit_properties(properties())
        .await;
    // Vacuum commits a record of what it does, possibly even if it fails later.
    table.refresh(&base).await?;
    let (delta, metrics) = vacuumed?;
    let log_files = cleanup_metadata(&delta, None).await?;
    let files = metrics.files_deleted.len();
    let bytes = if files > 0 { deleted_bytes(&delta).await? } else { 0 };
    Ok(Cleaned { files, bytes, log_files })
}

/// The bytes that the last vacuum deleted, according to its commits. It makes two of them.
async fn deleted_bytes(delta: &DeltaTable) -> Result<u64, Error> {
    let commits: Vec<CommitInfo> = delta.history(Some(2)).try_collect().await?;
    let bytes = |commit: &CommitInfo| {
        commit.info.get("operationMetrics")?.get("sizeOfDataToDelete")?.as_u64()
    };
    Ok(commits.iter().find_map(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests;
