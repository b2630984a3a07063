//! Compaction: many small files of a day into one, sorted, without touching the offsets.

use std::{collections::BTreeMap, sync::Arc};

use acuvim_schemas::tables::Table;
use arrow::array::RecordBatch;
use datafusion::physical_plan::{
    ExecutionPlan, execute_stream, sorts::sort_preserving_merge::SortPreservingMergeExec,
};
use deltalake::kernel::{Action, Add};
use futures::TryStreamExt as _;

use crate::{
    Error, Lake, Snapshot,
    files::{FileScan, ordering},
    table::{File, LakeTable},
    writer::{TARGET_BYTES, delta_writer},
};

/// When files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// So many files of a day and a size class become one.
    pub fan_in: usize,
    /// At most so many files are merged, and so open, at once.
    pub max_files: usize,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self { fan_in: 8, max_files: 32 }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were merged.
    pub removed: usize,
    /// Files they became.
    pub added: usize,
}

impl Lake {
    /// Merges the files that are due; none if none are. Rows, offsets and readers are untouched.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    pub async fn compact(&self, policy: CompactionPolicy) -> Result<Option<Compacted>, Error> {
        let mut failed = None;
        for table in self.tables.values() {
            let snapshot = table.current();
            let Some(due) = due(&snapshot.files, policy) else { continue };
            match self.merge(table, &snapshot, due).await {
                Ok(done) => return Ok(Some(done)),
                // One table's trouble is not the others'.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn merge(
        &self,
        table: &Arc<LakeTable>,
        snapshot: &Snapshot,
        files: Vec<File>,
    ) -> Result<Compacted, Error> {
        let removes = removes(snapshot, &files);
        let removed = files.len();
        tracing::debug!(table = table.table.name(), files = removed, "compaction begun");
        let adds = self.write_merged(table, files).await?;
        let added = adds.len();
        table.rewrite(snapshot, removes, adds, TARGET_BYTES).await?;
        metrics::counter!("acuvim_compacted_files_total", "table" => table.table.name())
            .increment(removed as u64);
        tracing::debug!(table = table.table.name(), removed, added, "compaction committed");
        Ok(Compacted { removed, added })
    }

    async fn write_merged(
        &self,
        table: &Arc<LakeTable>,
        files: Vec<File>,
    ) -> Result<Vec<Add>, Error> {
        let session = self.engine.merging(rows_at_a_time(table.table));
        let expected: Option<usize> = files.iter().map(|f| f.rows).sum();
        let scan =
            FileScan { table, files, projection: None, filters: &[], limit: None, sorted: true };
        let Some(scan) = scan.plan(&session.state())? else { return Ok(Vec::new()) };
        let merged: Arc<dyn ExecutionPlan> =
            Arc::new(SortPreservingMergeExec::new(ordering(table.table)?, scan));
        let mut rows = execute_stream(merged, session.task_ctx())?;
        let mut writer = delta_writer(table)?;
        let mut written = 0;
        while let Some(batch) = rows.try_next().await? {
            written += batch.num_rows();
            writer.write(&as_stored(table.table, &batch)?).await?;
        }
        let adds = writer.close().await?;
        if expected.is_some_and(|rows| rows != written) {
            return Err(Error::new(
                crate::ErrorKind::Internal,
                format!(
                    "{} files with {expected:?} rows merged to {written}: not committed",
                    table.table.name()
                ),
            ));
        }
        Ok(adds)
    }
}

/// Rows that a merge holds of each file it reads: dead letters can be large.
const fn rows_at_a_time(table: Table) -> usize {
    match table {
        Table::Telemetry => 1024,
        Table::DeadLetters => 16,
    }
}

/// A merge's batches differ from the table's schema in metadata alone, which the writer minds.
fn as_stored(table: Table, batch: &RecordBatch) -> Result<RecordBatch, Error> {
    Ok(RecordBatch::try_new(table.schema(), batch.columns().to_vec())?)
}

fn removes(snapshot: &Snapshot, files: &[File]) -> Vec<Action> {
    let gone: std::collections::HashSet<_> = files.iter().map(|f| &f.meta.location).collect();
    snapshot
        .state
        .log_data()
        .into_iter()
        .filter(|view| gone.contains(&view.object_store_path()))
        .map(|view| Action::Remove(view.remove_action(false)))
        .collect()
}

/// The smallest class of a day that has enough files; days with the most files first.
fn due(files: &[File], policy: CompactionPolicy) -> Option<Vec<File>> {
    let mut classes: BTreeMap<(u32, i32), Vec<&File>> = BTreeMap::new();
    for file in files.iter().filter(|f| f.meta.size < TARGET_BYTES / 2) {
        classes.entry((size_class(file.meta.size), file.date)).or_default().push(file);
    }
    let (_, due) = classes
        .into_iter()
        .filter(|(_, files)| files.len() >= policy.fan_in.max(2))
        .max_by_key(|(_, files)| files.len())?;
    let mut due: Vec<File> = due.into_iter().cloned().collect();
    due.sort_by_key(|f| f.meta.size);
    due.truncate(policy.max_files.max(2));
    Some(due)
}

/// Sizes within a factor of eight are one class, from 256 KiB: each row is rewritten a few times,
/// and a day has at most `fan_in` files in each of a few classes.
fn size_class(bytes: u64) -> u32 {
    (bytes >> 18).checked_ilog2().map_or(0, |log| 1 + log / 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{ObjectMeta, path::Path};

    fn file(date: i32, size: u64) -> File {
        let meta = ObjectMeta {
            location: Path::from(format!("{date}/{size}")),
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        };
        File { meta, date, rows: Some(1) }
    }

    #[test]
    fn a_day_never_has_many_files_of_a_class() {
        let policy = CompactionPolicy { fan_in: 4, max_files: 8 };
        let mut files = Vec::new();
        for flush in 0..3000_u64 {
            files.push(file(0, 30_000 + flush % 7));
            while let Some(due) = due(&files, policy) {
                let merged = due.iter().map(|f| f.meta.size).sum();
                files.retain(|f| !due.iter().any(|d| std::ptr::eq(d, f) || d.meta == f.meta));
                files.push(file(0, merged));
            }
            assert!(files.len() <= 24, "{} files after {flush} flushes", files.len());
        }
    }

    #[test]
    fn days_are_not_mixed_and_large_files_left_alone() {
        let policy = CompactionPolicy { fan_in: 2, max_files: 8 };
        assert!(due(&[file(0, 10), file(1, 10)], policy).is_none());
        assert!(due(&[file(0, TARGET_BYTES), file(0, TARGET_BYTES - 1)], policy).is_none());
        let due = due(&[file(1, 10), file(0, 10), file(1, 11)], policy).expect("a day with two");
        assert!(due.iter().all(|f| f.date == 1));
    }
}
