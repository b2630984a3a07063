//! What the rollups contain of `telemetry`: whether its history is built, and which of its files can
//! have readings that are in no rollup yet.
//!
//! Offsets alone do not tell the latter, since a file has readings of many partitions.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use acuvim_tables::Table;
use datafusion::{
    logical_expr::Expr,
    prelude::{col, lit},
};
use object_store::path::Path;
use serde_json::Value;

use super::{
    replace::{BUILT, next_day_id, seen_id},
    store::RollupStore,
};
use crate::{
    delta::{Snapshot, snapshot::File, table::LakeTable},
    error::Error,
    view::UnionTable,
};

/// The most commits that are read to find out which files were added since a version.
const MAX_COMMITS: i64 = 2000;

/// The files of `telemetry` whose readings are all in the rollups.
#[derive(Debug, Clone, Default)]
struct SeenFiles {
    /// The version of `telemetry` that the rollups contain completely.
    version: Option<i64>,
    /// Files added after that version and up to `opened_at`; none if they are not known.
    missed: Option<Arc<HashSet<Path>>>,
    /// The version at which this process opened `telemetry`. Of older files it does not know when they
    /// were added.
    opened_at: i64,
}

impl SeenFiles {
    fn contains(&self, file: &File) -> bool {
        let Some(version) = self.version else { return false };
        if file.since <= version {
            return true;
        }
        let missed = |missed: &Arc<HashSet<Path>>| missed.contains(&file.meta.location);
        file.since <= self.opened_at && self.missed.as_ref().is_some_and(|m| !missed(m))
    }
}

/// Which readings of a device are in no rollup yet.
#[derive(Debug, Clone)]
pub struct NotRolledUp {
    /// The condition on rows of `telemetry`.
    pub which: Expr,
    seen: SeenFiles,
}

impl NotRolledUp {
    /// The rows among which they are: those of files added since, and of the tail.
    #[must_use]
    pub fn among(&self, telemetry: &UnionTable) -> UnionTable {
        telemetry.only(|file| !self.seen.contains(file))
    }
}

/// The coverage of the rollups, cached between questions.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Whether history is built. It stays so.
    built: AtomicBool,
    /// The seen files at a version of the rollups.
    seen: tokio::sync::Mutex<Option<CachedSeen>>,
    /// [`SeenFiles::missed`], as found out when it was first needed.
    missed: tokio::sync::OnceCell<Option<Arc<HashSet<Path>>>>,
}

#[derive(Debug, Clone)]
struct CachedSeen {
    rollup_version: i64,
    seen: SeenFiles,
}

impl Coverage {
    /// Whether the rollups contain all readings that `telemetry` had when building them began.
    pub async fn is_built(&self, store: &RollupStore) -> Result<bool, Error> {
        if self.built.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let built = next_day(store).await? == Some(BUILT);
        self.built.store(built, Ordering::Relaxed);
        Ok(built)
    }

    /// Which readings of a device are in no rollup yet; none while history is being built.
    pub async fn not_rolled_up(
        &self,
        store: &RollupStore,
        device_id: &str,
    ) -> Result<Option<NotRolledUp>, Error> {
        if !self.is_built(store).await? {
            return Ok(None);
        }
        let seen = self.seen(store).await?;
        let partition = store.newest.partition(device_id);
        let quarters = store.snapshot(Table::Rollup15m)?;
        let next = store.reader.tables.next_offset(&quarters, partition);
        let epoch = col("epoch").eq(lit(store.epoch()));
        Ok(Some(NotRolledUp { which: epoch.and(col("offset").gt_eq(lit(next))), seen }))
    }

    /// A version of `telemetry` with only the files that can have readings beyond the rollups.
    pub async fn unseen(
        &self,
        store: &RollupStore,
        telemetry: &Snapshot,
    ) -> Result<Arc<Snapshot>, Error> {
        let seen = self.seen(store).await?;
        Ok(Arc::new(telemetry.only(|file| !seen.contains(file))))
    }

    /// Called before a view is taken. If the rollups contain more by the time of the view, some readings
    /// are only read twice.
    async fn seen(&self, store: &RollupStore) -> Result<SeenFiles, Error> {
        let quarters = store.table(Table::Rollup15m)?;
        let rollup_version = quarters.current().version();
        let cached = self.seen.lock().await.clone();
        if let Some(cached) = cached.filter(|c| c.rollup_version == rollup_version) {
            return Ok(cached.seen);
        }
        let version = quarters.transaction(&seen_id(store.epoch())).await?;
        let telemetry = store.table(Table::Telemetry)?;
        let opened_at = telemetry.opened_at;
        let missed = match version {
            Some(version) if version < opened_at => {
                let first =
                    self.missed.get_or_try_init(|| added_files(telemetry, version, opened_at));
                first.await?.clone()
            }
            _ => None,
        };
        let seen = SeenFiles { version, missed, opened_at };
        *self.seen.lock().await = Some(CachedSeen { rollup_version, seen: seen.clone() });
        Ok(seen)
    }
}

/// The first day of history that is not built; none if building has not begun in this epoch of the log.
pub(super) async fn next_day(store: &RollupStore) -> Result<Option<i64>, Error> {
    store.table(Table::Rollup15m)?.transaction(&next_day_id(store.epoch())).await
}

/// The files that commits after one version and up to another have added; none if a commit is missing
/// or there are too many.
async fn added_files(
    table: &LakeTable,
    from: i64,
    to: i64,
) -> Result<Option<Arc<HashSet<Path>>>, Error> {
    if to - from > MAX_COMMITS {
        return Ok(None);
    }
    let mut files = HashSet::new();
    for version in from + 1..=to {
        let version = u64::try_from(version).unwrap_or(0);
        let Some(commit) = table.log_store.read_commit_entry(version).await? else {
            return Ok(None);
        };
        for line in commit.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(action) = serde_json::from_slice::<Value>(line) else { return Ok(None) };
            let path = action.pointer("/add/path").and_then(Value::as_str);
            files.extend(path.map(Path::from));
        }
    }
    Ok(Some(Arc::new(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_seen_if_they_came_with_the_seen_version_or_are_known_not_to_be_missed() {
        let missed = Some(Arc::new(HashSet::from([Path::from("missed")])));
        let seen = SeenFiles { version: Some(5), missed, opened_at: 9 };
        assert!(seen.contains(&File::named("old", 5)));
        assert!(seen.contains(&File::named("there at the start", 9)));
        assert!(!seen.contains(&File::named("missed", 9)));
        assert!(!seen.contains(&File::named("new", 10)));
        let unknown = SeenFiles { missed: None, ..seen };
        assert!(!unknown.contains(&File::named("there at the start", 9)));
        assert!(!SeenFiles::default().contains(&File::named("old", 0)));
    }
}
