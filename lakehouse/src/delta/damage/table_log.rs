//! What the newest commits of a table say, and whether it is so.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::ErrorKind as IoErrorKind,
    path::{Path as FilePath, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use acuvim_schemas::tables::Table;
use object_store::path::Path;
use parquet::{errors::ParquetError, file::metadata::ParquetMetaDataReader};
use serde_json::Value;

use super::{LOG, MOST_COMMITS, OTHER_CLOCK, quarantine::set_torn_checkpoint_aside};
use crate::{Error, ErrorKind};

/// What can't be read may be whole.
pub(super) fn unreadable(path: &FilePath, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{} (lake.url): {error}", path.display()))
}

/// The newest commits of a table.
pub(super) struct TableLog {
    pub(super) table: Table,
    pub(super) folder: PathBuf,
    /// When each version was made, by its file.
    pub(super) made: BTreeMap<i64, SystemTime>,
    /// The first version that is damaged, and how.
    pub(super) damaged: Option<(i64, String)>,
}

impl TableLog {
    /// None if there is no such table.
    pub(super) fn read(table: Table, folder: PathBuf) -> Result<Option<Self>, Error> {
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

    pub(super) fn newest(&self) -> i64 {
        self.made.keys().next_back().copied().unwrap_or(-1)
    }

    pub(super) fn says(&self) -> Option<String> {
        let (version, what) = self.damaged.as_ref()?;
        Some(format!("{} is damaged from version {version} on: {what}", self.table.name()))
    }

    pub(super) fn commit(&self, version: i64) -> PathBuf {
        self.folder.join(LOG).join(format!("{version:020}.json"))
    }

    /// The first version that the table can't go on with. What a later one had removed is there again
    /// once that one is taken out, so it is looked for until nothing new is found.
    pub(super) fn first_damage(&self, oldest: SystemTime) -> Result<Option<(i64, String)>, Error> {
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

    pub(super) fn damage_before(
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
    pub(super) fn damage_of(&self, path: &str, size: u64) -> Result<Option<String>, Error> {
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
    pub(super) fn time(&self, version: i64) -> i64 {
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
    pub(super) fn clocks_apart(&self) -> i64 {
        let apart = |(version, at): (&i64, &SystemTime)| {
            let said = Changes::read(&self.commit(*version)).ok()?.ok()?.at?;
            let made = at.duration_since(UNIX_EPOCH).ok()?.as_millis();
            Some(i64::try_from(made).ok()? - said)
        };
        let newest = self.made.iter().rev().take(MOST_COMMITS);
        newest.filter_map(apart).max().unwrap_or(OTHER_CLOCK)
    }

    /// The newest version that was made before a moment.
    pub(super) fn before(&self, moment: i64) -> i64 {
        let first = self.made.keys().find(|version| self.time(**version) >= moment);
        first.map_or(self.newest(), |first| first - 1)
    }
}

/// What a commit says that it did.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The files that it added, with their sizes.
    added: Vec<(String, u64)>,
    removed: Vec<String>,
    /// The ids of whoever has noted how far it had come.
    pub(super) apps: Vec<String>,
    /// When, in milliseconds.
    at: Option<i64>,
}

impl Changes {
    /// What a commit says, or what is wrong with it.
    pub(super) fn read(path: &FilePath) -> Result<Result<Self, String>, Error> {
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

    pub(super) fn note(&mut self, action: &Value) {
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
pub(super) fn log_files(log: &FilePath) -> Result<Option<Vec<(i64, String)>>, Error> {
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

/// How long a file is; none if there is none.
pub(super) fn length(path: &FilePath) -> Result<Option<u64>, Error> {
    match path.metadata() {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}
