//! The newest commits of a table: what they claim, and whether the files they name are intact.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path as FilePath, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use acuvim_tables::Table;
use object_store::path::Path;
use serde_json::Value;

use super::{
    log_files::{LOG, file_length, io_failed, log_files},
    quarantine::{quarantine_torn_checkpoint, read_footer},
};
use crate::error::Error;

/// The number of commits of a table that are checked. Older ones have been on the disk for long.
const MAX_COMMITS: usize = 64;

/// The assumed difference, in milliseconds, between the clock of file times and that of commits where
/// no commit shows it.
const DEFAULT_CLOCK_SKEW_MS: i64 = 60_000;

/// The newest commits of a table.
pub(super) struct TableLog {
    pub(super) table: Table,
    pub(super) folder: PathBuf,
    /// The modification time of each commit's file, by version.
    pub(super) commits: BTreeMap<i64, SystemTime>,
    /// The first damaged version, and what is wrong with it.
    pub(super) damaged: Option<(i64, String)>,
}

impl TableLog {
    /// Reads the log of a table; none if the table does not exist.
    pub(super) fn read(table: Table, folder: PathBuf) -> Result<Option<Self>, Error> {
        let log = folder.join(LOG);
        let Some(files) = log_files(&log)? else { return Ok(None) };
        let mut commits = BTreeMap::new();
        for (version, name) in &files {
            if name.ends_with(".json") {
                let path = log.join(name);
                let modified = path.metadata().and_then(|m| m.modified());
                commits.insert(*version, modified.map_err(|e| io_failed(&path, e))?);
            }
        }
        quarantine_torn_checkpoint(&folder, &files, &commits)?;
        Ok(Some(Self { table, folder, commits, damaged: None }))
    }

    pub(super) fn newest(&self) -> i64 {
        self.commits.keys().next_back().copied().unwrap_or(-1)
    }

    pub(super) fn description(&self) -> Option<String> {
        let (version, what) = self.damaged.as_ref()?;
        Some(format!("{} is damaged from version {version} on: {what}", self.table.name()))
    }

    pub(super) fn commit_path(&self, version: i64) -> PathBuf {
        self.folder.join(LOG).join(format!("{version:020}.json"))
    }

    /// The first version that the table can't keep.
    ///
    /// Giving up a version brings back the files that it had removed. They may be missing by now, which
    /// makes an earlier version damaged too, so the search repeats until it finds nothing new.
    pub(super) fn first_damage(&self, oldest: SystemTime) -> Result<Option<(i64, String)>, Error> {
        let recent =
            self.commits.iter().rev().take(MAX_COMMITS).take_while(|(_, at)| **at >= oldest);
        let mut read = BTreeMap::new();
        for (version, _) in recent {
            read.insert(*version, Changes::read(&self.commit_path(*version))?);
        }
        let (mut first, mut end) = (None, i64::MAX);
        while let Some((version, what)) = self.damage_before(&read, end)? {
            end = version;
            first = Some((version, what));
        }
        Ok(first)
    }

    /// The first damaged version before `end`, if `end` and everything after it are given up.
    fn damage_before(
        &self,
        recent: &BTreeMap<i64, Result<Changes, String>>,
        end: i64,
    ) -> Result<Option<(i64, String)>, Error> {
        let mut removed: HashSet<&str> = HashSet::new();
        let mut first = None;
        // From the newest down, so that files which a later commit has removed are known before the
        // one that added them.
        for (version, changes) in recent.range(..end).rev() {
            match changes {
                Ok(changes) => {
                    let kept = |file: &&AddedFile| !removed.contains(file.path.as_str());
                    for file in changes.added.iter().filter(kept) {
                        if let Some(what) = self.damage_of(file)? {
                            first = Some((*version, what));
                            break;
                        }
                    }
                    removed.extend(changes.removed.iter().map(String::as_str));
                }
                Err(what) => first = Some((*version, what.clone())),
            }
        }
        Ok(first)
    }

    /// What is wrong with a data file; none if it exists with its length and ends as Parquet files do.
    fn damage_of(&self, file: &AddedFile) -> Result<Option<String>, Error> {
        let path = &file.path;
        let relative = match Path::from_url_path(path) {
            Ok(relative) => relative,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let relative: &str = relative.as_ref();
        let absolute = self.folder.join(relative);
        let Some(found) = file_length(&absolute)? else {
            return Ok(Some(format!("{path}: it is gone")));
        };
        // The length first: most damage is a file that was cut off, and this needs no reading.
        if found != file.size {
            return Ok(Some(format!("{path}: {found} bytes, not {}", file.size)));
        }
        Ok(read_footer(&absolute)?.err().map(|error| format!("{path}: {error}")))
    }

    /// The time of a commit in milliseconds. The commit's own statement counts, because copying the
    /// folder changes the times of its files.
    pub(super) fn time(&self, version: i64) -> i64 {
        let read = Changes::read(&self.commit_path(version)).ok().and_then(Result::ok);
        read.and_then(|changes| changes.committed_at).unwrap_or_else(|| {
            let file = self.commits.get(&version).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let file = file.and_then(|file| i64::try_from(file.as_millis()).ok()).unwrap_or(0);
            file - self.clock_skew()
        })
    }

    /// By how many milliseconds, at most, the files of the newest commits are later than the commits
    /// themselves say. File times come from another clock, for example that of a file server.
    fn clock_skew(&self) -> i64 {
        let skew = |(version, at): (&i64, &SystemTime)| {
            let stated = Changes::read(&self.commit_path(*version)).ok()?.ok()?.committed_at?;
            let file = at.duration_since(UNIX_EPOCH).ok()?.as_millis();
            Some(i64::try_from(file).ok()? - stated)
        };
        // The largest difference counts, because going back too far only repeats work, while going
        // back too little would keep rows of a damaged time.
        let newest = self.commits.iter().rev().take(MAX_COMMITS);
        newest.filter_map(skew).max().unwrap_or(DEFAULT_CLOCK_SKEW_MS)
    }

    /// The newest version that was committed before a time.
    pub(super) fn newest_before(&self, time: i64) -> i64 {
        let first = self.commits.keys().find(|version| self.time(**version) >= time);
        first.map_or(self.newest(), |first| first - 1)
    }
}

/// A data file as its commit describes it.
#[derive(Debug)]
struct AddedFile {
    path: String,
    size: u64,
}

/// The contents of a commit.
#[derive(Debug, Default)]
pub(super) struct Changes {
    added: Vec<AddedFile>,
    removed: Vec<String>,
    /// The app ids of its transactions.
    pub(super) app_ids: Vec<String>,
    /// Its own time in milliseconds.
    committed_at: Option<i64>,
}

impl Changes {
    /// Reads a commit. The inner error says what is wrong with it.
    pub(super) fn read(path: &FilePath) -> Result<Result<Self, String>, Error> {
        let bytes = std::fs::read(path).map_err(|e| io_failed(path, e))?;
        let mut changes = Self::default();
        let mut actions = 0;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Value>(line) {
                Ok(action) => changes.add(&action),
                Err(error) => return Ok(Err(format!("the commit is cut off or no JSON: {error}"))),
            }
            actions += 1;
        }
        Ok(match actions {
            0 => Err("the commit is empty".to_owned()),
            _ => Ok(changes),
        })
    }

    fn add(&mut self, action: &Value) {
        let text = |of: &str| action.pointer(of).and_then(Value::as_str).map(str::to_owned);
        if let Some(path) = text("/add/path") {
            let size = action.pointer("/add/size").and_then(Value::as_u64).unwrap_or(0);
            self.added.push(AddedFile { path, size });
        }
        self.removed.extend(text("/remove/path"));
        self.app_ids.extend(text("/txn/appId"));
        let at = action.pointer("/commitInfo/timestamp").and_then(Value::as_i64);
        self.committed_at = at.or(self.committed_at);
    }
}

#[cfg(test)]
mod tests;
