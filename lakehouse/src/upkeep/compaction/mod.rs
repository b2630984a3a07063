//! Compaction: merges many small files of a day into few sorted ones. Offsets do not move.

mod merge;
mod plan;
mod policy;
mod split_writer;

use acuvim_wire::time::Micros;
use deltalake::{
    kernel::{Action, Add},
    protocol::DeltaOperation,
};
use merge::merge_files;
use object_store::path::Path;
pub use policy::{Compacted, CompactionPolicy};

use crate::{
    delta::{
        Covered, Snapshot, commit::Replacement, schema_evolution::is_of_later_version,
        snapshot::File, table::LakeTable, tables::Tables,
    },
    error::{Error, ErrorKind},
    view::Engine,
};

/// Merges files that are due, of the first table that has any; none if there are none.
///
/// A failed merge does not keep other tables and files waiting: its files are skipped for a while. Its
/// error is returned only if nothing else was merged.
pub(crate) async fn compact(
    tables: &Tables,
    engine: &Engine,
    policy: CompactionPolicy,
    now: Micros,
) -> Result<Option<Compacted>, Error> {
    let mut failed = None;
    for table in tables.iter() {
        let _removing = table.removing.lock().await;
        let snapshot = table.current();
        // Merging would drop the columns that this version does not know.
        if is_of_later_version(table.kind, &snapshot) {
            continue;
        }
        let files = table.cooldown.available(&snapshot.files);
        let Some(due) = plan::due(&files, policy, now) else { continue };
        let inputs: Vec<Path> = due.iter().map(|f| f.meta.location.clone()).collect();
        match merge(table, engine, &snapshot, due, policy).await {
            Ok(done) => return Ok(Some(done)),
            // The process that was faster has merged or removed these files. Two merge at once only
            // while a lease passes from one to the other.
            Err(error) if error.kind() == ErrorKind::Overtaken => {
                tracing::info!(table = table.kind.name(), %error, "another process merged first");
            }
            Err(error) => {
                // The same files would be chosen again at once, and fail again.
                table.cooldown.add(inputs);
                failed = failed.or(Some(error));
            }
        }
    }
    failed.map_or(Ok(None), Err)
}

async fn merge(
    table: &LakeTable,
    engine: &Engine,
    snapshot: &Snapshot,
    files: Vec<File>,
    policy: CompactionPolicy,
) -> Result<Compacted, Error> {
    let kind = table.kind;
    let removes = snapshot.removes(&files, false);
    let removed = files.len();
    tracing::debug!(table = kind.name(), files = removed, "compaction begun");
    let adds = merge_files(table, engine, files, policy.file_bytes).await?;
    let added = adds.len();
    let paths: Vec<Path> = adds.iter().map(|add| Path::from(add.path.as_str())).collect();
    commit(table, snapshot, removes, adds, policy.file_bytes).await?;
    let now = table.current();
    let merged = now.files.iter().filter(|f| paths.contains(&f.meta.location));
    let merged: Vec<File> = merged.cloned().collect();
    // Merging these files with each other would give the same files again.
    if plan::would_merge_again(&merged, policy) {
        table.cooldown.add(paths);
    }
    metrics::counter!("acuvim_compacted_files_total", "table" => kind.name())
        .increment(removed as u64);
    tracing::debug!(table = kind.name(), removed, added, "compaction committed");
    Ok(Compacted { removed, added })
}

/// Replaces files by others with the same rows. The commit states that no data changes, so that readers
/// which follow changes skip it.
async fn commit(
    table: &LakeTable,
    base: &Snapshot,
    removes: Vec<Action>,
    mut adds: Vec<Add>,
    file_bytes: u64,
) -> Result<(), Error> {
    // Otherwise consumers of the change feed would receive every row a second time.
    adds.iter_mut().for_each(|add| add.data_change = false);
    let target_size = i64::try_from(file_bytes).unwrap_or(i64::MAX);
    let replacement = Replacement {
        removes,
        adds,
        covered: Covered::new(),
        transactions: Vec::new(),
        operation: DeltaOperation::Optimize { predicate: None, target_size },
    };
    let committing = table.committing.lock().await;
    table.replace(&committing, base, replacement).await
}

#[cfg(test)]
mod tests;
