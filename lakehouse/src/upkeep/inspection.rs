//! Finds the damaged files of the lake, after a query has failed on one: the engine's error does not name
//! it.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, errors::ParquetError};

use crate::{
    delta::{snapshot::File, table::LakeTable, tables::Tables},
    error::Error,
};

/// Reads the files of the newest snapshots, the newest days first, for a limited time. Returns the paths
/// of damaged files below the lake. An error means that the store is away, and says nothing about files.
pub(crate) async fn damaged_files(tables: &Tables, time: Duration) -> Result<Vec<String>, Error> {
    let begun = Instant::now();
    let mut damaged = Vec::new();
    for table in tables.iter() {
        let snapshot = table.current();
        let mut files: Vec<&File> = snapshot.files.iter().collect();
        // Queries mostly read the last days, so the damaged file that ended one is most likely
        // there.
        files.sort_by_key(|file| Reverse(file.date));
        for file in files {
            if begun.elapsed() >= time {
                return Ok(damaged);
            }
            if let Some(what) = damage_of(table, file).await? {
                let path = format!("{}/{}", table.kind.name(), file.meta.location);
                tracing::error!(%path, what, "a file of the lake is damaged");
                damaged.push(path);
            }
        }
    }
    Ok(damaged)
}

/// What is wrong with a file; none if all of it can be read.
async fn damage_of(table: &LakeTable, file: &File) -> Result<Option<String>, Error> {
    let store = table.log_store.object_store(None);
    let bytes = match store.get(&file.meta.location).await {
        Ok(found) => found.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(Some("it is missing".into())),
        Err(error) => return Err(error.into()),
    };
    let expected = file.rows;
    // Decoding a large file would block the other tasks of this thread.
    let read = tokio::task::spawn_blocking(move || count_rows(bytes)).await;
    Ok(match (read, expected) {
        // A decoder that panics has met damage too.
        (Err(panic), _) => Some(panic.to_string()),
        (Ok(Err(error)), _) => Some(error.to_string()),
        (Ok(Ok(rows)), Some(expected)) if rows != expected => {
            Some(format!("{rows} rows, not {expected}"))
        }
        (Ok(Ok(_)), _) => None,
    })
}

/// Reads a file completely, and counts its rows.
fn count_rows(bytes: Bytes) -> Result<usize, ParquetError> {
    let mut rows = 0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
