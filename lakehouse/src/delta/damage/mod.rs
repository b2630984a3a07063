//! Recovery from a power cut on a local disk that did not keep what it had confirmed.
//!
//! The newest commits of a table may then be torn, or name files that are missing or cut off. The lake
//! goes back to the state before the first of them, as if the process had been killed at that time, and
//! the records that came later are read from the log again.

mod log_files;
mod quarantine;
mod rollback;
mod table_log;

use std::time::{Duration, UNIX_EPOCH};

use acuvim_tables::Table;
use deltalake::DeltaTableBuilder;
use rollback::{Rollback, check_epoch, check_events_intact, damaged_at, plan};
use table_log::TableLog;

use super::{
    create::table_url,
    durable::DurableFiles,
    snapshot::Covered,
    store,
    table::{SourceLog, read_covered},
};
use crate::{
    error::{Error, ErrorKind},
    options::LakeOptions,
};

/// Commits older than the newest one of the lake by more than this are not checked: the disk has
/// written them long ago.
const RECENT: Duration = Duration::from_secs(3600);

/// Damage among the newest commits of a lake, and the rollbacks that repair it.
#[derive(Debug)]
pub struct Damage {
    what: Vec<String>,
    restart: Option<Covered>,
    rollbacks: Vec<Rollback>,
}

impl Damage {
    /// Checks the newest commits of each table, and that the files they added exist with their lengths
    /// and end as Parquet files do. None if there is no damage, or if the lake is not on a local disk.
    ///
    /// # Errors
    /// When the folders can't be read; when no earlier version is complete; when the damaged rows have no
    /// other source.
    pub async fn find(options: &LakeOptions) -> Result<Option<Self>, Error> {
        store::register();
        let Some(lake) = store::local_folder(&options.url) else { return Ok(None) };
        let tables = store::off_thread(move || {
            let read = |table: Table| TableLog::read(table, lake.join(table.name()));
            let tables = Table::ALL.into_iter().map(read).collect::<Result<Vec<_>, Error>>()?;
            find_damage(tables.into_iter().flatten().collect())
        })
        .await?;
        let what: Vec<String> = tables.iter().filter_map(TableLog::description).collect();
        if what.is_empty() {
            return Ok(None);
        }
        // All checks come before anything is moved, so a refused recovery leaves the lake as it
        // was.
        check_events_intact(&tables)?;
        let rollbacks = plan(&tables);
        check_epoch(&tables, &rollbacks, options.epoch)?;
        for rollback in &rollbacks {
            rollback.check(options, &tables).await?;
        }
        let restart = restart(options, &tables, &rollbacks).await?;
        Ok(Some(Self { what, restart, rollbacks }))
    }

    /// What is damaged, one line per table.
    #[must_use]
    pub fn what(&self) -> &[String] {
        &self.what
    }

    /// The offsets from which the log must still have its records, by partition; none if no rows that
    /// came from the log are lost.
    #[must_use]
    pub const fn restart(&self) -> Option<&Covered> {
        self.restart.as_ref()
    }

    /// Moves the damaged commits, and those after them, into a folder `_damaged` beside `_delta_log`.
    /// No other process may have the lake open.
    ///
    /// # Errors
    /// When the disk fails. The next [`Self::find`] finds what is left to do.
    pub async fn set_aside(self) -> Result<(), Error> {
        store::off_thread(move || {
            let files = DurableFiles::new();
            self.rollbacks.iter().try_for_each(|rollback| rollback.run(&files))
        })
        .await
    }
}

/// Looks for damage in the commits that were made shortly before the newest commit of the lake.
fn find_damage(mut tables: Vec<TableLog>) -> Result<Vec<TableLog>, Error> {
    let newest = tables.iter().filter_map(|table| table.commits.values().max()).max();
    let oldest = newest.and_then(|newest| newest.checked_sub(RECENT)).unwrap_or(UNIX_EPOCH);
    for table in &mut tables {
        table.damaged = table.first_damage(oldest)?;
    }
    Ok(tables)
}

/// Where reading the log continues after the rollbacks; none if they touch no table written from it.
async fn restart(
    options: &LakeOptions,
    tables: &[TableLog],
    rollbacks: &[Rollback],
) -> Result<Option<Covered>, Error> {
    if damaged_at(tables, &Table::COMMIT_ORDER).is_none() {
        return Ok(None);
    }
    let Some(log) = tables.iter().find(|t| t.table == Table::Telemetry) else {
        return Ok(Some(Covered::new()));
    };
    let rollback = rollbacks.iter().find(|r| r.folder == log.folder);
    let version = rollback.map_or(log.newest(), |rollback| rollback.version);
    covered_at(options, version).await.map(Some)
}

/// The offsets that `telemetry` covers at a version.
async fn covered_at(options: &LakeOptions, version: i64) -> Result<Covered, Error> {
    // Version -1 is the state before the first commit, which covered nothing.
    let Ok(version) = u64::try_from(version) else { return Ok(Covered::new()) };
    let url = table_url(&options.url, Table::Telemetry)?;
    let url = deltalake::ensure_table_uri(url.as_str())?;
    let delta = DeltaTableBuilder::from_url(url)?.with_version(version).load().await?;
    let log_store = delta.log_store();
    let state = delta.state.ok_or_else(|| {
        Error::new(ErrorKind::Internal, format!("telemetry has no state at version {version}"))
    })?;
    let log = SourceLog { epoch: options.epoch, partitions: options.partitions };
    read_covered(&state, &log_store, Table::Telemetry, log).await
}
