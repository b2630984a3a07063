//! Compaction: many small files of a day into few that are sorted, without touching the offsets.

mod cut;
mod plan;

use std::{collections::HashSet, sync::Arc, time::Duration};

use acuvim_schemas::{tables::Table, time::Micros};
use arrow::array::RecordBatch;
use cut::CutWriter;
use datafusion::physical_plan::{
    ExecutionPlan, execute_stream, sorts::sort_preserving_merge::SortPreservingMergeExec,
};
use deltalake::kernel::Add;
use futures::TryStreamExt as _;
use object_store::path::Path;

use crate::{
    Error, Lake, Snapshot,
    files::{FileScan, Order, ordering},
    grow::is_of_later_version,
    snapshot::File,
    table::LakeTable,
    writer::TARGET_BYTES,
};

/// When files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// So many files of a day and a size class become one.
    pub fan_in: usize,
    /// At most so many files are merged, and so open, at once.
    pub max_files: usize,
    /// Files of about so many bytes are large enough; at most 256 MiB.
    pub file_bytes: u64,
    /// How long a day that is over is left alone after its last file, before its files are merged
    /// into such as follow each other.
    pub settle: Duration,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self {
            fan_in: 8,
            max_files: 32,
            file_bytes: TARGET_BYTES,
            settle: Duration::from_secs(600),
        }
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
    /// Merges the files that are due at a time; none if none are. Rows, offsets and readers are
    /// untouched.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    pub async fn compact(
        &self,
        policy: CompactionPolicy,
        now: Micros,
    ) -> Result<Option<Compacted>, Error> {
        let mut failed = None;
        for table in self.tables.values() {
            let _alone = table.rewriting.lock().await;
            let snapshot = table.current();
            if is_of_later_version(table.table, &snapshot) {
                continue;
            }
            let files = table.aside.others(&snapshot.files);
            let Some(due) = plan::due(&files, policy, now) else { continue };
            let inputs: Vec<Path> = due.iter().map(|f| f.meta.location.clone()).collect();
            match self.merge(table, &snapshot, due, policy).await {
                Ok(done) => return Ok(Some(done)),
                // One table's trouble is not the others', nor some files' that of the next.
                Err(error) => {
                    table.aside.put(inputs);
                    failed = failed.or(Some(error));
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn merge(
        &self,
        table: &Arc<LakeTable>,
        snapshot: &Snapshot,
        files: Vec<File>,
        policy: CompactionPolicy,
    ) -> Result<Compacted, Error> {
        let removes = snapshot.removes(&files, false);
        let removed = files.len();
        tracing::debug!(table = table.table.name(), files = removed, "compaction begun");
        let adds = self.write_merged(table, files, policy.file_bytes).await?;
        let added = adds.len();
        let paths: HashSet<Path> = adds.iter().map(|add| Path::from(add.path.as_str())).collect();
        table.rewrite(snapshot, removes, adds, policy.file_bytes).await?;
        let now = table.current();
        let made = now.files.iter().filter(|f| paths.contains(&f.meta.location));
        let made: Vec<File> = made.cloned().collect();
        // What would be merged again as it is now would come out the same.
        if plan::is_unparted(&made, policy) {
            table.aside.put(paths.into_iter().collect());
        }
        metrics::counter!("acuvim_compacted_files_total", "table" => table.table.name())
            .increment(removed as u64);
        tracing::debug!(table = table.table.name(), removed, added, "compaction committed");
        Ok(Compacted { removed, added })
    }

    async fn write_merged(
        &self,
        table: &Arc<LakeTable>,
        files: Vec<File>,
        file_bytes: u64,
    ) -> Result<Vec<Add>, Error> {
        let session = self.engine.merging(rows_at_a_time(table.table));
        let expected: Option<usize> = files.iter().map(|f| f.rows).sum();
        let bytes: u64 = files.iter().map(|f| f.meta.size).sum();
        let scan = FileScan {
            table,
            files,
            projection: None,
            filters: &[],
            limit: None,
            order: Order::PerFile,
        };
        let Some(scan) = scan.plan(&session.state())? else { return Ok(Vec::new()) };
        let merged: Arc<dyn ExecutionPlan> =
            Arc::new(SortPreservingMergeExec::new(ordering(table.table)?, scan));
        let mut rows = execute_stream(merged, session.task_ctx())?;
        let mut writer = CutWriter::new(table, rows_per_file(expected, bytes, file_bytes))?;
        let merged = async {
            let mut written = 0;
            while let Some(batch) = rows.try_next().await? {
                written += batch.num_rows();
                writer.write(&as_stored(table.table, &batch)?).await?;
            }
            Ok::<_, Error>(written)
        };
        let written = match merged.await {
            Ok(written) => written,
            Err(error) => {
                writer.abandon().await;
                return Err(error);
            }
        };
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

/// How many rows come to about so many bytes, a fifth less to be sure, when those that are merged take
/// what they take now.
fn rows_per_file(rows: Option<usize>, bytes: u64, file_bytes: u64) -> usize {
    let rows = rows.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(bytes);
    let per_file = u128::from(rows) * u128::from(file_bytes) * 4 / (u128::from(bytes.max(1)) * 5);
    usize::try_from(per_file).unwrap_or(usize::MAX).max(1)
}

/// Rows that a merge holds of each file it reads: dead letters can be large.
const fn rows_at_a_time(table: Table) -> usize {
    match table {
        Table::DeadLetters => 16,
        _ => 1024,
    }
}

/// A merge's batches differ from the table's schema in metadata alone, which the writer minds.
fn as_stored(table: Table, batch: &RecordBatch) -> Result<RecordBatch, Error> {
    Ok(RecordBatch::try_new(table.schema(), batch.columns().to_vec())?)
}
