//! Cleaning: deletes data files that no recent version refers to, and commits that a checkpoint covers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use deltalake::{DeltaTable, checkpoints::cleanup_metadata, operations::vacuum::VacuumMode};
use futures::TryStreamExt as _;
use object_store::{ObjectMeta, ObjectStore as _};

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
    let vacuum = || {
        delta
            .clone()
            .vacuum()
            .with_retention_period(keep)
            // delta-rs refuses to keep files for less than a week otherwise.
            .with_enforce_retention_duration(false)
            .with_mode(VacuumMode::Full)
            .with_commit_properties(properties())
    };
    // For a week delta-rs names the files of a merge again, also after they were deleted. Each vacuum
    // makes two commits, so it runs only if one of these files is still there.
    let (_, planned) = vacuum().with_dry_run(true).await?;
    let left = sizes(table, planned.files_deleted).await?;
    let vacuumed = match left.is_empty() {
        true => delta,
        false => {
            let vacuumed = vacuum().await;
            // Vacuum commits a record of what it does, possibly even if it fails later.
            table.refresh(&base).await?;
            vacuumed?.0
        }
    };
    let log_files = cleanup_metadata(&vacuumed, None).await?;
    Ok(Cleaned { files: left.len(), bytes: left.iter().sum(), log_files })
}

/// The sizes in bytes of those among some files that exist.
async fn sizes(table: &LakeTable, paths: Vec<String>) -> Result<Vec<u64>, Error> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let paths: HashSet<String> = paths.into_iter().collect();
    let store = table.log_store.object_store(None);
    let wanted = |file: &ObjectMeta| paths.contains(file.location.as_ref());
    let files = store.list(None).try_filter(|file| std::future::ready(wanted(file)));
    Ok(files.map_ok(|file| file.size).try_collect().await?)
}

#[cfg(test)]
mod tests;
