//! What a power cut can have left of the newest commits of a lake of local files, where the disk did
//! not keep what it had promised or an earlier version did not ask it to: a commit that is no commit,
//! or one whose files are not there. The lake then goes back to the moment before the first of them,
//! as after a kill at that moment, and the log has what came since.

mod quarantine;
mod table_log;

use std::{
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use acuvim_schemas::tables::Table;
use deltalake::DeltaTableBuilder;

use quarantine::Aside;
use table_log::{Changes, TableLog, length, log_files};

use crate::{
    Covered, Error, ErrorKind, LakeOptions,
    durable::DurableFiles,
    store,
    table::{read_covered, table_url},
};

/// Commits of a table that are looked at: what is older has been on the disk for long.
const MOST_COMMITS: usize = 64;

/// So much younger than the newest commit they are at least.
const RECENT: Duration = Duration::from_secs(3600);

/// By how much, in milliseconds, the clock of files may differ from that of whoever commits, where that
/// can't be seen.
const OTHER_CLOCK: i64 = 60_000;

/// Where Delta keeps a table's commits.
const LOG: &str = "_delta_log";

/// Where what is damaged is kept, in the folder of its table. A name with `_` in front is hidden from
/// Delta's readers and from cleaning.
const ASIDE: &str = "_damaged";

/// The file that names the newest checkpoint.
const HINT: &str = "_last_checkpoint";

/// Damage among the newest commits of a lake, and what undoes it.
#[derive(Debug)]
pub struct Damage {
    what: Vec<String>,
    restart: Option<Covered>,
    back: Vec<Back>,
}

/// A table, and the version that it goes back to; -1 is before its first.
#[derive(Debug)]
struct Back {
    folder: PathBuf,
    to: i64,
}

impl Damage {
    /// Looks at the newest commits of each table, and at the files that they have added: whether they
    /// are there, as long as the commit says, and end as Parquet files do. None if all of them are,
    /// and none on a store that is not of local files.
    ///
    /// # Errors
    /// When the folders can't be read; when no version is left, with all of its files, that a table could
    /// go back to; when what is damaged has no other source.
    pub async fn find(options: &LakeOptions) -> Result<Option<Self>, Error> {
        store::register();
        let Some(lake) = store::local_folder(&options.url) else { return Ok(None) };
        let tables = off_thread(move || {
            let read = |table: Table| TableLog::read(table, lake.join(table.name()));
            let tables = Table::ALL.into_iter().map(read).collect::<Result<Vec<_>, Error>>()?;
            look_through(tables.into_iter().flatten().collect())
        })
        .await?;
        let what: Vec<String> = tables.iter().flat_map(TableLog::says).collect();
        if what.is_empty() {
            return Ok(None);
        }
        events_stay(&tables)?;
        let back = plan(&tables);
        epochs_stay(&tables, &back, options.epoch)?;
        for one in &back {
            can_go_back(options, one, &tables).await?;
        }
        let telemetry = tables.iter().find(|t| t.table == Table::Telemetry);
        let restart = match (moment(&tables, &Table::COMMIT_ORDER), telemetry) {
            (Some(_), Some(log)) => {
                let to =
                    back.iter().find(|b| b.folder == log.folder).map_or(log.newest(), |b| b.to);
                Some(covered_at(options, to).await?)
            }
            (Some(_), None) => Some(Covered::new()),
            (None, _) => None,
        };
        Ok(Some(Self { what, restart, back }))
    }

    /// What is damaged, a line for each table.
    #[must_use]
    pub fn what(&self) -> &[String] {
        &self.what
    }

    /// From where on the log must still have its records, by partition; none if nothing is lost that
    /// came from there.
    #[must_use]
    pub const fn restart(&self) -> Option<&Covered> {
        self.restart.as_ref()
    }

    /// Takes the damaged commits, and what was committed after them, out of the tables. They are kept
    /// in a folder `_damaged` beside. Nobody else may have the lake open.
    ///
    /// # Errors
    /// When the disk fails. What was not done yet is found by the next call.
    pub async fn set_aside(self) -> Result<(), Error> {
        off_thread(move || {
            let files = DurableFiles::new();
            self.back.iter().try_for_each(|back| back.go(&files))
        })
        .await
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(ErrorKind::Internal, format!("lake: {e}")))?
}

/// Finds the damage of all tables, among what was committed shortly before the newest commit of the lake.
fn look_through(mut tables: Vec<TableLog>) -> Result<Vec<TableLog>, Error> {
    let newest = tables.iter().filter_map(|table| table.made.values().max()).max();
    let oldest = newest.and_then(|newest| newest.checked_sub(RECENT)).unwrap_or(UNIX_EPOCH);
    for table in &mut tables {
        table.damaged = table.first_damage(oldest)?;
    }
    Ok(tables)
}

/// Events have no other source: what is whole behind a damaged commit of theirs is not given up for it.
fn events_stay(tables: &[TableLog]) -> Result<(), Error> {
    let events = tables.iter().filter(|table| Table::EVENTS.contains(&table.table));
    for table in events {
        let Some((version, what)) = &table.damaged else { continue };
        let path = table.commit(*version);
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

/// What an earlier log has brought no log brings again.
fn epochs_stay(tables: &[TableLog], back: &[Back], epoch: i32) -> Result<(), Error> {
    for table in tables.iter().filter(|table| Table::COMMIT_ORDER.contains(&table.table)) {
        let Some(to) = back.iter().find(|b| b.folder == table.folder).map(|b| b.to) else {
            continue;
        };
        let ours = format!("{}:{epoch}:", table.table.name());
        let any = format!("{}:", table.table.name());
        for version in table.made.range(to + 1..).map(|(version, _)| *version) {
            let changes = Changes::read(&table.commit(version))?;
            let apps = changes.map(|changes| changes.apps).unwrap_or_default();
            if apps.iter().any(|app| app.starts_with(&any) && !app.starts_with(&ours)) {
                return Err(Error::new(
                    ErrorKind::Setup,
                    format!(
                        "{} (lake.url) is damaged, and what it would lose was brought by a log that was \
                         laid out anew since: put its files back from a copy of the lake",
                        table.table.name()
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Whether all is there that a table goes back to.
async fn can_go_back(options: &LakeOptions, back: &Back, tables: &[TableLog]) -> Result<(), Error> {
    let Some(log) = tables.iter().find(|table| table.folder == back.folder) else { return Ok(()) };
    let lost = |what: &str| {
        Error::new(
            ErrorKind::Setup,
            format!(
                "{} (lake.url) is damaged, and can't go back to its version {}: {what}. Put its files \
                 back from a copy of the lake",
                log.table.name(),
                back.to
            ),
        )
    };
    let Ok(version) = u64::try_from(back.to) else {
        // Before its first version there was nothing.
        return match log.made.contains_key(&0) {
            true => Ok(()),
            false => Err(lost("its first versions are not kept any more")),
        };
    };
    let url = table_url(&options.url, log.table)?;
    let url = deltalake::ensure_table_uri(url.as_str())?;
    let delta = DeltaTableBuilder::from_url(url)?.with_version(version).load().await;
    let delta = delta.map_err(|error| lost(&error.to_string()))?;
    for file in delta.snapshot()?.snapshot().log_data() {
        let relative = file.object_store_path();
        let relative: &str = relative.as_ref();
        let size = u64::try_from(file.size()).unwrap_or(0);
        if length(&log.folder.join(relative))? != Some(size) {
            return Err(lost(&format!("{relative} is gone")));
        }
    }
    Ok(())
}

/// The moment before which all commits of some tables are whole; none if all are.
fn moment(tables: &[TableLog], of: &[Table]) -> Option<i64> {
    let these = tables.iter().filter(|t| of.contains(&t.table));
    these.filter_map(|t| t.damaged.as_ref().map(|(version, _)| t.time(*version))).min()
}

/// Which tables go back, and in which order. What is written from the log goes back together, so that
/// it is a lake that there was: `telemetry` says for all of them from where on the log is read. The
/// rollups say which versions of it they have seen, and go with it. Events stay.
fn plan(tables: &[TableLog]) -> Vec<Back> {
    let stream = moment(tables, &Table::COMMIT_ORDER);
    let rollups = [stream, moment(tables, &Table::ROLLUPS)].into_iter().flatten().min();
    let mut back = Vec::new();
    for log in tables {
        let moment = match log.table {
            table if Table::COMMIT_ORDER.contains(&table) => stream,
            table if Table::ROLLUPS.contains(&table) => rollups,
            _ => None,
        };
        let Some(moment) = moment else { continue };
        let whole = log.damaged.as_ref().map_or(i64::MAX, |(version, _)| version - 1);
        let to = log.before(moment).min(whole);
        if to < log.newest() {
            // Broken off, it must be found again: the oldest damage goes last, the rollups first.
            let rank = match log.damaged.as_ref() {
                _ if Table::ROLLUPS.contains(&log.table) => (0, 0),
                None => (1, 0),
                Some((version, _)) => (2, -log.time(*version)),
            };
            back.push((rank, Back { folder: log.folder.clone(), to }));
        }
    }
    back.sort_by_key(|(rank, _)| *rank);
    back.into_iter().map(|(_, back)| back).collect()
}

/// What `telemetry` covers at a version.
async fn covered_at(options: &LakeOptions, version: i64) -> Result<Covered, Error> {
    let Ok(version) = u64::try_from(version) else { return Ok(Covered::new()) };
    let url = table_url(&options.url, Table::Telemetry)?;
    let url = deltalake::ensure_table_uri(url.as_str())?;
    let delta = DeltaTableBuilder::from_url(url)?.with_version(version).load().await?;
    let log_store = delta.log_store();
    let state = delta.state.ok_or_else(|| {
        Error::new(ErrorKind::Internal, format!("telemetry has no state at version {version}"))
    })?;
    read_covered(&state, &log_store, Table::Telemetry, options.epoch, options.partitions).await
}

impl Back {
    /// Checkpoints first, which stand for commits that may go; then the newest version first, so that
    /// the log has no gap whenever this ends.
    fn go(&self, files: &DurableFiles) -> Result<(), Error> {
        let aside = Aside::new(&self.folder, files.clone());
        aside.take_hint_beyond(self.to)?;
        let log = log_files(&self.folder.join(LOG))?.unwrap_or_default();
        for commits in [false, true] {
            let these = |name: &str| name.ends_with(".json") == commits;
            for (version, name) in log.iter().rev() {
                if *version > self.to && these(name) {
                    aside.take(name)?;
                }
            }
        }
        Ok(())
    }
}
