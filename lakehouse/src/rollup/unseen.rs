//! Which files can have readings that are in no rollup: those that have come since it was last brought
//! up to date. Offsets alone would not tell, since a file has those of many partitions.

use std::{collections::HashSet, sync::Arc};

use acuvim_schemas::tables::Table;
use datafusion::{
    logical_expr::Expr,
    prelude::{col, lit},
};
use object_store::path::Path;
use serde_json::Value;

use super::replace::seen_id;
use crate::{Error, Lake, Snapshot, UnionTable, snapshot::File, table::LakeTable};

/// Commits that are looked through for it at most.
const MOST_COMMITS: i64 = 2000;

/// What the rollups have seen of `telemetry`: all files of a version, and of those that a process found
/// when it opened the table all but some.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    version: Option<i64>,
    /// Files that came between that version and the opening; none if that is not known.
    missed: Option<Arc<HashSet<Path>>>,
    opened: i64,
}

/// Which readings of a device are in no rollup yet.
#[derive(Debug, Clone)]
pub struct NotRolledUp {
    /// The condition on rows of `telemetry`.
    pub which: Expr,
    seen: Seen,
}

impl NotRolledUp {
    /// The rows among which they are: of the files that have come since, and of the tail.
    #[must_use]
    pub fn among(&self, telemetry: &UnionTable) -> UnionTable {
        telemetry.only(|file| !self.seen.has(file))
    }
}

impl Seen {
    fn has(&self, file: &File) -> bool {
        let Some(version) = self.version else { return false };
        if file.since <= version {
            return true;
        }
        let missed = |missed: &Arc<HashSet<Path>>| missed.contains(&file.meta.location);
        file.since <= self.opened && self.missed.as_ref().is_some_and(|m| !missed(m))
    }
}

impl Lake {
    /// Which readings of a device are in no rollup yet; none while the rollups are being built.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn not_rolled_up(&self, device_id: &str) -> Result<Option<NotRolledUp>, Error> {
        if !self.rollups_are_built().await? {
            return Ok(None);
        }
        let seen = self.seen().await?;
        let partition = self.newest().partition(device_id);
        let next = self.next_offset_of(Table::Rollup15m, partition);
        let epoch = col("epoch").eq(lit(self.epoch()));
        Ok(Some(NotRolledUp { which: epoch.and(col("offset").gt_eq(lit(next))), seen }))
    }

    /// A version of `telemetry` with only the files that can have readings beyond the rollups.
    pub(crate) async fn not_seen(&self, telemetry: &Snapshot) -> Result<Arc<Snapshot>, Error> {
        let seen = self.seen().await?;
        Ok(Arc::new(telemetry.only(|file| !seen.has(file))))
    }

    /// Asked before a view is taken: rollups that have seen more by then are only the better.
    async fn seen(&self) -> Result<Seen, Error> {
        let quarters = self.table(Table::Rollup15m)?;
        let at = quarters.current().version();
        let held = self.seen.lock().await.clone();
        if let Some((_, seen)) = held.filter(|(version, _)| *version == at) {
            return Ok(seen);
        }
        let version = quarters.transaction(&seen_id(self.epoch())).await?;
        let telemetry = self.table(Table::Telemetry)?;
        let opened = telemetry.opened;
        let missed = match version {
            Some(version) if version < opened => {
                let first = self.missed.get_or_try_init(|| added(telemetry, version, opened));
                first.await?.clone()
            }
            _ => None,
        };
        let seen = Seen { version, missed, opened };
        *self.seen.lock().await = Some((at, seen.clone()));
        Ok(seen)
    }
}

/// The files that commits behind a version have added, up to another; none if that can't be told.
async fn added(table: &LakeTable, from: i64, to: i64) -> Result<Option<Arc<HashSet<Path>>>, Error> {
    if to - from > MOST_COMMITS {
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
