//! Cleaning: files that no version within a time refers to, and commits that a checkpoint covers.

use std::{sync::Arc, time::Duration};

use deltalake::{
    DeltaTable, checkpoints::cleanup_metadata, kernel::CommitInfo, operations::vacuum::VacuumMode,
};
use futures::TryStreamExt as _;

use crate::{
    Error, ErrorKind, Lake,
    table::{LakeTable, properties},
};

/// What a cleaning removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Data files: merged into others, or left by a commit that failed.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files of the Delta log.
    pub log_files: usize,
}

impl Lake {
    /// Removes what no version younger than `keep` needs. `keep` must be longer than any query
    /// runs and any flush writes.
    ///
    /// # Errors
    /// When the store fails; what is needed is untouched.
    pub async fn clean(&self, keep: Duration) -> Result<Cleaned, Error> {
        let mut all = Cleaned::default();
        for table in self.tables.values() {
            let cleaned = table.clean(keep).await?;
            all.files += cleaned.files;
            all.bytes += cleaned.bytes;
            all.log_files += cleaned.log_files;
        }
        Ok(all)
    }
}

impl LakeTable {
    async fn clean(&self, keep: Duration) -> Result<Cleaned, Error> {
        let keep = chrono::Duration::from_std(keep)
            .map_err(|e| Error::new(ErrorKind::Setup, format!("the time to keep: {e}")))?;
        let _turn = self.turn.lock().await;
        let base = self.current();
        let mut delta = DeltaTable::new(Arc::clone(&self.log_store));
        delta.state = Some(base.state.clone());
        let vacuumed = delta
            .vacuum()
            .with_retention_period(keep)
            .with_enforce_retention_duration(false)
            .with_mode(VacuumMode::Full)
            .with_commit_properties(properties())
            .await;
        // It commits what it did, and may have done so even if it failed later.
        self.refresh(&base).await?;
        let (delta, metrics) = vacuumed?;
        let log_files = cleanup_metadata(&delta, None).await?;
        let files = metrics.files_deleted.len();
        let bytes = if files > 0 { freed(&delta).await? } else { 0 };
        Ok(Cleaned { files, bytes, log_files })
    }
}

/// The bytes that the last vacuum removed, as its commit says.
async fn freed(delta: &DeltaTable) -> Result<u64, Error> {
    // A vacuum makes two commits.
    let commits: Vec<CommitInfo> = delta.history(Some(2)).try_collect().await?;
    let bytes = |commit: &CommitInfo| {
        commit.info.get("operationMetrics")?.get("sizeOfDataToDelete")?.as_u64()
    };
    Ok(commits.iter().find_map(bytes).unwrap_or(0))
}
