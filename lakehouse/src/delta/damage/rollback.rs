//! Which version each table goes back to when one of them is damaged, and whether it can.

use std::path::PathBuf;

use acuvim_tables::Table;
use deltalake::DeltaTableBuilder;

use super::{
    log_files::{LOG, file_length, log_files},
    quarantine::Quarantine,
    table_log::{Changes, TableLog},
};
use crate::{
    delta::{create::table_url, durable::DurableFiles},
    error::{Error, ErrorKind},
    options::LakeOptions,
};

/// A table that goes back to an earlier version; -1 is the state before its first.
#[derive(Debug)]
pub(super) struct Rollback {
    pub folder: PathBuf,
    pub version: i64,
}

/// The time before which all commits of some tables are intact; none if all commits are.
pub(super) fn damaged_at(tables: &[TableLog], of: &[Table]) -> Option<i64> {
    let these = tables.iter().filter(|t| of.contains(&t.table));
    these.filter_map(|t| t.damaged.as_ref().map(|(version, _)| t.time(*version))).min()
}

/// The tables that go back, in the order in which they must.
///
/// Tables that are written from the log go back to one point in time, so that together they are a state
/// that the lake was in: `telemetry` decides for all of them where reading the log continues. Rollups
/// record which version of `telemetry` they contain, so they go back with it. Event tables have no
/// other source and stay.
pub(super) fn plan(tables: &[TableLog]) -> Vec<Rollback> {
    let stream = damaged_at(tables, &Table::COMMIT_ORDER);
    let rollups = [stream, damaged_at(tables, &Table::ROLLUPS)].into_iter().flatten().min();
    let mut ranked = Vec::new();
    for log in tables {
        let time = match log.table {
            table if Table::COMMIT_ORDER.contains(&table) => stream,
            table if Table::ROLLUPS.contains(&table) => rollups,
            _ => None,
        };
        let Some(time) = time else { continue };
        let intact = log.damaged.as_ref().map_or(i64::MAX, |(version, _)| version - 1);
        let version = log.newest_before(time).min(intact);
        if version < log.newest() {
            // If this is interrupted, the next start must find the same damage again. So the rollups go
            // first, and the table with the oldest damage last.
            let rank = match log.damaged.as_ref() {
                _ if Table::ROLLUPS.contains(&log.table) => (0, 0),
                None => (1, 0),
                Some((damaged, _)) => (2, -log.time(*damaged)),
            };
            ranked.push((rank, Rollback { folder: log.folder.clone(), version }));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, rollback)| rollback).collect()
}

/// Refuses to roll back event tables: intact events after a damaged commit would be lost.
pub(super) fn check_events_intact(tables: &[TableLog]) -> Result<(), Error> {
    let events = tables.iter().filter(|table| Table::EVENTS.contains(&table.table));
    for table in events {
        let Some((version, what)) = &table.damaged else { continue };
        let path = table.commit_path(*version);
        return Err(Error::new(
            ErrorKind::Setup,
            format!(
                "{} (lake.url) is damaged from version {version} on ({what}), and nothing else has its \
                 events: put {} and its files back from a copy; or give them up: move that commit and \
                 all later ones out of the table's folder _delta_log, and start again",
                table.table.name(),
                path.display()
            ),
        ));
    }
    Ok(())
}

/// Refuses to give up commits of an earlier epoch: the log of today does not have those records.
pub(super) fn check_epoch(
    tables: &[TableLog],
    rollbacks: &[Rollback],
    epoch: i32,
) -> Result<(), Error> {
    for table in tables.iter().filter(|table| Table::COMMIT_ORDER.contains(&table.table)) {
        let Some(rollback) = rollbacks.iter().find(|r| r.folder == table.folder) else { continue };
        let ours = format!("{}:{epoch}:", table.table.name());
        let any = format!("{}:", table.table.name());
        for version in table.commits.range(rollback.version + 1..).map(|(version, _)| *version) {
            let changes = Changes::read(&table.commit_path(version))?;
            let apps = changes.map(|changes| changes.app_ids).unwrap_or_default();
            if apps.iter().any(|app| app.starts_with(&any) && !app.starts_with(&ours)) {
                return Err(Error::new(
                    ErrorKind::Setup,
                    format!(
                        "{} (lake.url) is damaged, and the rows that it would lose came from a log \
                         that was laid out anew since: put its files back from a copy of the lake",
                        table.table.name()
                    ),
                ));
            }
        }
    }
    Ok(())
}

impl Rollback {
    /// Checks that all files of the version still exist.
    pub async fn check(&self, options: &LakeOptions, tables: &[TableLog]) -> Result<(), Error> {
        let Some(log) = tables.iter().find(|table| table.folder == self.folder) else {
            return Ok(());
        };
        let lost = |what: &str| {
            Error::new(
                ErrorKind::Setup,
                format!(
                    "{} (lake.url) is damaged, and can't go back to its version {}: {what}. Put its \
                     files back from a copy of the lake",
                    log.table.name(),
                    self.version
                ),
            )
        };
        let Ok(version) = u64::try_from(self.version) else {
            return match log.commits.contains_key(&0) {
                true => Ok(()),
                false => Err(lost("its first versions are not kept any more")),
            };
        };
        let url = table_url(&options.url, log.table)?;
        let url = deltalake::ensure_table_uri(url.as_str())?;
        let delta = DeltaTableBuilder::from_url(url)?.with_version(version).load().await;
        let delta = delta.map_err(|error| lost(&error.to_string()).caused_by(error))?;
        for file in delta.snapshot()?.snapshot().log_data() {
            let relative = file.object_store_path();
            let relative: &str = relative.as_ref();
            let size = u64::try_from(file.size()).unwrap_or(0);
            if file_length(&log.folder.join(relative))? != Some(size) {
                return Err(lost(&format!("{relative} is gone")));
            }
        }
        Ok(())
    }

    /// Moves later log files into the quarantine. Checkpoints go first, since they stand for commits
    /// that are about to go. Commits go from the newest down, so that an interruption leaves no gap.
    pub fn run(&self, files: &DurableFiles) -> Result<(), Error> {
        let quarantine = Quarantine::new(&self.folder, files.clone());
        quarantine.take_last_checkpoint_after(self.version)?;
        let log = log_files(&self.folder.join(LOG))?.unwrap_or_default();
        for commits in [false, true] {
            let these = |name: &str| name.ends_with(".json") == commits;
            for (version, name) in log.iter().rev() {
                if *version > self.version && these(name) {
                    quarantine.take(name)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// A log whose versions were committed at times in seconds. The files do not exist, so the times of
    /// their commits are those of the map, less one skew for all.
    fn log(table: Table, times: &[u64], damaged: Option<i64>) -> TableLog {
        let commits =
            (0..).zip(times).map(|(v, s)| (v, UNIX_EPOCH + Duration::from_secs(1000 + s)));
        TableLog {
            table,
            folder: PathBuf::from("/does/not/exist").join(table.name()),
            commits: commits.collect(),
            damaged: damaged.map(|version| (version, "cut off".to_owned())),
        }
    }

    fn planned(tables: &[TableLog]) -> Vec<(String, i64)> {
        let name = |r: &Rollback| r.folder.file_name().expect("a name").display().to_string();
        plan(tables).iter().map(|r| (name(r), r.version)).collect()
    }

    #[test]
    fn tables_from_the_log_go_back_together_and_rollups_first() {
        let tables = [
            log(Table::Telemetry, &[0, 10, 20, 30], Some(2)),
            log(Table::DeadLetters, &[0, 9, 19, 29], None),
            log(Table::Rollup15m, &[0, 11, 21], None),
            log(Table::AlertEvents, &[0, 40], None),
        ];
        let wanted = [("rollup_15m", 1), ("dead_letters", 2), ("telemetry", 1)];
        assert_eq!(planned(&tables), wanted.map(|(name, version)| (name.to_owned(), version)));
    }

    #[test]
    fn damaged_rollups_alone_leave_the_log_s_tables_as_they_are() {
        let tables =
            [log(Table::Telemetry, &[0, 10], None), log(Table::RollupDaily, &[0, 11, 21], Some(1))];
        assert_eq!(planned(&tables), [("rollup_daily".to_owned(), 0)]);
        assert_eq!(damaged_at(&tables, &Table::COMMIT_ORDER), None);
    }

    #[test]
    fn damaged_events_are_refused() {
        assert!(check_events_intact(&[log(Table::DeviceEvents, &[0, 1], None)]).is_ok());
        let error = check_events_intact(&[log(Table::DeviceEvents, &[0, 1], Some(1))]);
        assert_eq!(error.expect_err("refused").kind(), ErrorKind::Setup);
    }
}
