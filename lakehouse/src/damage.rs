//! What a power cut can have left of the newest commits of a lake of local files, where the disk did
//! not keep what it had promised or an earlier version did not ask it to: a commit that is no commit,
//! or one whose files are not there. The lake then goes back to the moment before the first of them,
//! as after a kill at that moment, and the log has what came since.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::ErrorKind as IoErrorKind,
    path::{Path as FilePath, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use acuvim_schemas::tables::Table;
use deltalake::DeltaTableBuilder;
use object_store::path::Path;
use parquet::{errors::ParquetError, file::metadata::ParquetMetaDataReader};
use serde_json::Value;

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
        let back = plan(&tables);
        events_stay(&tables)?;
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

/// What can't be read may be whole.
fn unreadable(path: &FilePath, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{} (lake.url): {error}", path.display()))
}

/// The newest commits of a table.
struct TableLog {
    table: Table,
    folder: PathBuf,
    /// When each version was made, by its file.
    made: BTreeMap<i64, SystemTime>,
    /// The first version that is damaged, and how.
    damaged: Option<(i64, String)>,
}

impl TableLog {
    /// None if there is no such table.
    fn read(table: Table, folder: PathBuf) -> Result<Option<Self>, Error> {
        let log = folder.join(LOG);
        let Some(files) = log_files(&log)? else { return Ok(None) };
        let mut made = BTreeMap::new();
        for (version, name) in &files {
            if name.ends_with(".json") {
                let path = log.join(name);
                let modified = path.metadata().and_then(|m| m.modified());
                made.insert(*version, modified.map_err(|e| unreadable(&path, &e))?);
            }
        }
        set_torn_checkpoint_aside(&folder, &files, &made)?;
        Ok(Some(Self { table, folder, made, damaged: None }))
    }

    fn newest(&self) -> i64 {
        self.made.keys().next_back().copied().unwrap_or(-1)
    }

    fn says(&self) -> Option<String> {
        let (version, what) = self.damaged.as_ref()?;
        Some(format!("{} is damaged from version {version} on: {what}", self.table.name()))
    }

    fn commit(&self, version: i64) -> PathBuf {
        self.folder.join(LOG).join(format!("{version:020}.json"))
    }

    /// The first version that the table can't go on with. What a later one had removed is there again
    /// once that one is taken out, so it is looked for until nothing new is found.
    fn first_damage(&self, oldest: SystemTime) -> Result<Option<(i64, String)>, Error> {
        let recent = self.made.iter().rev().take(MOST_COMMITS).take_while(|(_, at)| **at >= oldest);
        let mut read = BTreeMap::new();
        for (version, _) in recent {
            read.insert(*version, Changes::read(&self.commit(*version))?);
        }
        let (mut first, mut end) = (None, i64::MAX);
        while let Some((version, what)) = self.damage_before(&read, end)? {
            end = version;
            first = Some((version, what));
        }
        Ok(first)
    }

    fn damage_before(
        &self,
        recent: &BTreeMap<i64, Result<Changes, String>>,
        end: i64,
    ) -> Result<Option<(i64, String)>, Error> {
        let mut gone: HashSet<&str> = HashSet::new();
        let mut first = None;
        for (version, changes) in recent.range(..end).rev() {
            match changes {
                Ok(changes) => {
                    for (path, size) in
                        changes.added.iter().filter(|(path, _)| !gone.contains(path.as_str()))
                    {
                        if let Some(what) = self.damage_of(path, *size)? {
                            first = Some((*version, what));
                            break;
                        }
                    }
                    gone.extend(changes.removed.iter().map(String::as_str));
                }
                Err(what) => first = Some((*version, what.clone())),
            }
        }
        Ok(first)
    }

    /// What is wrong with a data file. A disk that does not answer says nothing of it.
    fn damage_of(&self, path: &str, size: u64) -> Result<Option<String>, Error> {
        let relative = match Path::from_url_path(path) {
            Ok(relative) => relative,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let name: &str = relative.as_ref();
        let place = self.folder.join(name);
        let Some(found) = length(&place)? else { return Ok(Some(format!("{path}: it is gone"))) };
        if found != size {
            return Ok(Some(format!("{path}: {found} bytes, not {size}")));
        }
        let file = File::open(&place).map_err(|e| unreadable(&place, &e))?;
        match ParquetMetaDataReader::new().parse_and_finish(&file) {
            Ok(_) => Ok(None),
            Err(ParquetError::External(error)) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{} (lake.url): {error}", place.display()),
            )),
            Err(error) => Ok(Some(format!("{path}: {error}"))),
        }
    }

    /// When a version was committed, in milliseconds: as it says itself, which a copy of the folder
    /// does not change.
    fn time(&self, version: i64) -> i64 {
        let read = Changes::read(&self.commit(version)).ok().and_then(Result::ok);
        let said = read.and_then(|changes| changes.at);
        said.unwrap_or_else(|| {
            let made = self.made.get(&version).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let made = made.and_then(|made| i64::try_from(made.as_millis()).ok()).unwrap_or(0);
            // A file's time is of another clock than what commits say of themselves.
            made - self.clocks_apart()
        })
    }

    /// By how much the times of the newest commits' files are later, at most, than what they say
    /// themselves, in milliseconds.
    fn clocks_apart(&self) -> i64 {
        let apart = |(version, at): (&i64, &SystemTime)| {
            let said = Changes::read(&self.commit(*version)).ok()?.ok()?.at?;
            let made = at.duration_since(UNIX_EPOCH).ok()?.as_millis();
            Some(i64::try_from(made).ok()? - said)
        };
        let newest = self.made.iter().rev().take(MOST_COMMITS);
        newest.filter_map(apart).max().unwrap_or(OTHER_CLOCK)
    }

    /// The newest version that was made before a moment.
    fn before(&self, moment: i64) -> i64 {
        let first = self.made.keys().find(|version| self.time(**version) >= moment);
        first.map_or(self.newest(), |first| first - 1)
    }
}

/// What a commit says that it did.
#[derive(Debug, Default)]
struct Changes {
    /// The files that it added, with their sizes.
    added: Vec<(String, u64)>,
    removed: Vec<String>,
    /// The ids of whoever has noted how far it had come.
    apps: Vec<String>,
    /// When, in milliseconds.
    at: Option<i64>,
}

impl Changes {
    /// What a commit says, or what is wrong with it.
    fn read(path: &FilePath) -> Result<Result<Self, String>, Error> {
        let bytes = std::fs::read(path).map_err(|e| unreadable(path, &e))?;
        let mut changes = Self::default();
        let mut actions = 0;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Value>(line) {
                Ok(action) => changes.note(&action),
                Err(error) => return Ok(Err(format!("the commit is cut off or no JSON: {error}"))),
            }
            actions += 1;
        }
        Ok(match actions {
            0 => Err("the commit is empty".to_owned()),
            _ => Ok(changes),
        })
    }

    fn note(&mut self, action: &Value) {
        let path = |of: &str| action.pointer(of).and_then(Value::as_str).map(str::to_owned);
        if let Some(added) = path("/add/path") {
            let size = action.pointer("/add/size").and_then(Value::as_u64).unwrap_or(0);
            self.added.push((added, size));
        }
        self.removed.extend(path("/remove/path"));
        self.apps.extend(path("/txn/appId"));
        let at = action.pointer("/commitInfo/timestamp").and_then(Value::as_i64);
        self.at = at.or(self.at);
    }
}

/// The files of a table's log that are of a version, with it; none if there is no log.
fn log_files(log: &FilePath) -> Result<Option<Vec<(i64, String)>>, Error> {
    let entries = match std::fs::read_dir(log) {
        Ok(entries) => entries,
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(log, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| unreadable(log, &e))?.file_name();
        let Some(name) = name.to_str() else { continue };
        // `#` is in the names of what was being written.
        let version = name.get(..20).and_then(|digits| digits.parse::<i64>().ok());
        if let Some(version) = version.filter(|_| !name.contains('#')) {
            files.push((version, name.to_owned()));
        }
    }
    files.sort();
    Ok(Some(files))
}

/// A checkpoint repeats what the commits say: without it they are read instead, as long as they are
/// all there from an older one on, or from the first.
fn set_torn_checkpoint_aside(
    folder: &FilePath,
    files: &[(i64, String)],
    made: &BTreeMap<i64, SystemTime>,
) -> Result<(), Error> {
    let mut checkpoints =
        files.iter().filter(|(_, name)| name.ends_with(".checkpoint.parquet")).rev();
    let Some((version, name)) = checkpoints.next() else { return Ok(()) };
    let path = folder.join(LOG).join(name);
    let file = File::open(&path).map_err(|e| unreadable(&path, &e))?;
    let error = match ParquetMetaDataReader::new().parse_and_finish(&file) {
        Ok(_) => return Ok(()),
        Err(ParquetError::External(error)) => {
            let text = format!("{} (lake.url): {error}", path.display());
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        Err(error) => error,
    };
    let from = checkpoints.next().map_or(0, |(older, _)| older + 1);
    if !(from..=*version).all(|version| made.contains_key(&version)) {
        return Err(Error::new(
            ErrorKind::Setup,
            format!(
                "{} (lake.url) is damaged ({error}) and the commits that it sums up are gone: put it \
                 back from a copy of the lake",
                path.display()
            ),
        ));
    }
    tracing::warn!(path = %path.display(), %error, "a damaged checkpoint is set aside");
    let aside = Aside::new(folder, DurableFiles::new());
    aside.take_hint_beyond(version - 1)?;
    aside.take(name)
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

/// How long a file is; none if there is none.
fn length(path: &FilePath) -> Result<Option<u64>, Error> {
    match path.metadata() {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The moment before which all commits of some tables are whole; none if all are.
fn moment(tables: &[TableLog], of: &[Table]) -> Option<i64> {
    let these = tables.iter().filter(|t| of.contains(&t.table));
    these.filter_map(|t| t.damaged.as_ref().map(|(version, _)| t.time(*version))).min()
}

/// Which tables go back, and in which order. What is written from the log goes back together, so that
/// it is a lake that there was: `telemetry` says for all of them from where on the log is read. The
/// rollups say which versions of it they have seen, and go with it. Events have no other source.
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
        let whole = log.damaged.as_ref().map_or(i64::MAX, |(version, _)| version - 1);
        let to = moment.map_or(i64::MAX, |moment| log.before(moment)).min(whole);
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

/// The folder that the damaged files of a table go to.
struct Aside {
    log: PathBuf,
    to: PathBuf,
    files: DurableFiles,
}

impl Aside {
    fn new(table: &FilePath, files: DurableFiles) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let to = table.join(ASIDE).join(now.as_millis().to_string());
        Self { log: table.join(LOG), to, files }
    }

    fn take(&self, name: &str) -> Result<(), Error> {
        let from = self.log.join(name);
        let taken = std::fs::create_dir_all(&self.to)
            .and_then(|()| std::fs::rename(&from, self.to.join(name)))
            .and_then(|()| self.files.keep_folder(&self.to))
            .and_then(|()| self.files.keep_folder(&self.log));
        taken.map_err(|e| unreadable(&from, &e))
    }

    /// Takes the file that names the newest checkpoint, unless that one stays.
    fn take_hint_beyond(&self, to: i64) -> Result<(), Error> {
        let Ok(hint) = std::fs::read(self.log.join(HINT)) else { return Ok(()) };
        let hint: Option<Value> = serde_json::from_slice(&hint).ok();
        let version = hint.as_ref().and_then(|hint| hint.get("version")).and_then(Value::as_i64);
        match version {
            Some(version) if version <= to => Ok(()),
            _ => self.take(HINT),
        }
    }
}
