//! Which file of the lake is damaged, once a query has met one: the engine's error does not say.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use datafusion::error::DataFusionError;
use object_store::ObjectStoreExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{Error, Lake, Snapshot, error::computing_error, snapshot::File, table::LakeTable};

/// Whether an error may come of a damaged or missing file, in place of a store that is away.
#[must_use]
pub fn may_be_damage(error: &DataFusionError) -> bool {
    if computing_error(error).is_some() {
        return false;
    }
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(store) = error.downcast_ref::<object_store::Error>() {
            return matches!(store, object_store::Error::NotFound { .. });
        }
        next = error.source();
    }
    let root = error.find_root();
    matches!(root, DataFusionError::ParquetError(_) | DataFusionError::External(_))
        || matches!(root, DataFusionError::ArrowError(e, _) if e.to_string().contains("Parquet"))
}

impl Lake {
    /// Reads the newest snapshots' files, the newest days first, for so long at most; answers with
    /// those that can't be read, as their paths under the lake.
    ///
    /// # Errors
    /// When the store is away: then no file is to blame.
    pub async fn damaged_files(&self, time: Duration) -> Result<Vec<String>, Error> {
        let begun = Instant::now();
        let mut damaged = Vec::new();
        for table in self.tables.values() {
            let snapshot: Arc<Snapshot> = table.current();
            let mut files: Vec<&File> = snapshot.files.iter().collect();
            files.sort_by_key(|file| std::cmp::Reverse(file.date));
            for file in files {
                if begun.elapsed() >= time {
                    return Ok(damaged);
                }
                if let Some(what) = table.look_at(file).await? {
                    let path = format!("{}/{}", table.table.name(), file.meta.location);
                    tracing::error!(%path, what, "a file of the lake is damaged");
                    damaged.push(path);
                }
            }
        }
        Ok(damaged)
    }
}

impl LakeTable {
    /// What is wrong with a file; none if all of it can be read.
    async fn look_at(&self, file: &File) -> Result<Option<String>, Error> {
        let store = self.log_store.object_store(None);
        let bytes = match store.get(&file.meta.location).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(Some("it is missing".into())),
            Err(error) => return Err(error.into()),
        };
        let expected = file.rows;
        let looked = tokio::task::spawn_blocking(move || whole(bytes, expected)).await;
        // A decoder that gives up with a panic has met damage too.
        Ok(looked.unwrap_or_else(|e| Some(e.to_string())))
    }
}

fn whole(bytes: Bytes, expected: Option<usize>) -> Option<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|b| b.build());
    let mut rows = 0;
    match reader {
        Ok(reader) => {
            for batch in reader {
                match batch {
                    Ok(batch) => rows += batch.num_rows(),
                    Err(error) => return Some(error.to_string()),
                }
            }
        }
        Err(error) => return Some(error.to_string()),
    }
    match expected {
        Some(expected) if expected != rows => Some(format!("{rows} rows, not {expected}")),
        _ => None,
    }
}
