//! Merges sorted files by streaming their rows, without holding them in memory.

use std::sync::Arc;

use acuvim_tables::Table;
use arrow::array::RecordBatch;
use datafusion::physical_plan::{
    ExecutionPlan, execute_stream, sorts::sort_preserving_merge::SortPreservingMergeExec,
};
use deltalake::kernel::Add;
use futures::TryStreamExt as _;

use super::split_writer::SplitWriter;
use crate::{
    delta::{file_groups::ordering, scan::FileScan, snapshot::File, table::LakeTable},
    error::{Error, ErrorKind},
    view::Engine,
};

/// Writes the rows of files, merged in the table's order, to new files of about `file_bytes`.
pub(super) async fn merge_files(
    table: &LakeTable,
    engine: &Engine,
    files: Vec<File>,
    file_bytes: u64,
) -> Result<Vec<Add>, Error> {
    let session = engine.merging(batch_size(table.kind));
    let expected: Option<usize> = files.iter().map(|f| f.rows).sum();
    let bytes: u64 = files.iter().map(|f| f.meta.size).sum();
    let scan = FileScan::merging(table, files).plan(&session.state())?;
    let Some(scan) = scan else { return Ok(Vec::new()) };
    let merged: Arc<dyn ExecutionPlan> =
        Arc::new(SortPreservingMergeExec::new(ordering(table.kind)?, scan));
    let mut rows = execute_stream(merged, session.task_ctx())?;
    let mut writer = SplitWriter::new(table, rows_per_file(expected, bytes, file_bytes))?;
    let merging = async {
        let mut written = 0;
        while let Some(batch) = rows.try_next().await? {
            written += batch.num_rows();
            writer.write(&with_schema(table.kind, &batch)?).await?;
        }
        Ok::<_, Error>(written)
    };
    let written = match merging.await {
        Ok(written) => written,
        Err(error) => {
            // A merge that fails again and again would otherwise fill the store until the next
            // cleaning.
            writer.abandon().await;
            return Err(error);
        }
    };
    let adds = writer.close().await?;
    // The last guard before the inputs are given up: a fault of the reader must not lose rows.
    if expected.is_some_and(|rows| rows != written) {
        return Err(Error::new(
            ErrorKind::Internal,
            format!(
                "{} files with {expected:?} rows merged to {written}: not committed",
                table.kind.name()
            ),
        ));
    }
    Ok(adds)
}

/// The number of rows in a file of `file_bytes`, if rows keep their present size. A fifth less as
/// a margin: at its size limit the writer would cut a file in the middle of a device.
fn rows_per_file(rows: Option<usize>, bytes: u64, file_bytes: u64) -> usize {
    let rows = rows.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(bytes);
    let per_file = u128::from(rows) * u128::from(file_bytes) * 4 / (u128::from(bytes.max(1)) * 5);
    usize::try_from(per_file).unwrap_or(usize::MAX).max(1)
}

/// The number of rows that a merge holds of each file. Dead letters can be large.
const fn batch_size(table: Table) -> usize {
    match table {
        Table::DeadLetters => 16,
        _ => 1024,
    }
}

/// The schema of merged batches differs in its metadata, which the writer does not accept.
fn with_schema(table: Table, batch: &RecordBatch) -> Result<RecordBatch, Error> {
    Ok(RecordBatch::try_new(table.schema(), batch.columns().to_vec())?)
}

#[cfg(test)]
mod tests;
