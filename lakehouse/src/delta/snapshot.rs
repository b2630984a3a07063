//! A version of a table: its data files with their statistics, and the log offsets they cover.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use acuvim_tables::{DATE, Table};
use acuvim_wire::time::{Micros, parse_rfc3339};
use arrow::{array::types::Date32Type, compute::kernels::cast_utils::Parser as _};
use deltalake::{
    DeltaTableError,
    kernel::{Action, LogicalFileView},
    table::state::DeltaTableState,
};
use object_store::{ObjectMeta, path::Path};
use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;

/// For each partition of the log, the first offset that a table does not cover. A partition that no
/// commit of the table has moved has no entry.
pub type Covered = BTreeMap<u32, i64>;

/// An immutable version of a table: its files, and the log offsets that their rows cover.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) state: DeltaTableState,
    pub(crate) files: Vec<File>,
    pub(crate) covered: Covered,
}

/// A data file of a snapshot, as reported to those who watch the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFile<'a> {
    /// The day of its rows, in days since 1970-01-01.
    pub day: i32,
    /// The number of its rows, if the Delta log states it.
    pub rows: Option<usize>,
    /// Its size in bytes.
    pub bytes: u64,
    /// The least and the greatest device id, if the Delta log states them and no row lacks one.
    pub devices: Option<(&'a str, &'a str)>,
}

/// A data file of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub meta: ObjectMeta,
    /// The day of its rows, in days since 1970-01-01.
    pub date: i32,
    pub rows: Option<usize>,
    pub bounds: Arc<Bounds>,
    /// The version at which this process first saw the file. It was added by that version or an
    /// earlier one.
    pub since: i64,
}

/// The least and the greatest value of a column within a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MinMax<T> {
    pub min: T,
    pub max: T,
}

impl<T> MinMax<T> {
    pub const fn each_ref(&self) -> MinMax<&T> {
        MinMax { min: &self.min, max: &self.max }
    }

    pub fn map<U>(self, f: impl Fn(T) -> U) -> MinMax<U> {
        MinMax { min: f(self.min), max: f(self.max) }
    }
}

/// The minimum and maximum of the columns that files are pruned and ordered by; none if unknown.
///
/// The maximum of a time may be up to a millisecond too large, since Delta's statistics cut times to
/// milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Of the first sort column. None also if a row is null there.
    pub by: Option<MinMax<String>>,
    /// Of the second sort column, the time.
    pub time: Option<MinMax<Micros>>,
    /// Of the offset in the log.
    pub offset: Option<MinMax<i64>>,
}

impl Snapshot {
    /// Builds a snapshot. Statistics of files that `before` contains are taken from it, because parsing
    /// those of all files at every commit would cost more than the commit.
    pub(crate) fn new(
        table: Table,
        state: DeltaTableState,
        covered: Covered,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
        // Names are unique and files immutable, so the name alone tells that the statistics are the
        // same.
        let known: HashMap<&Path, &File> =
            before.iter().flat_map(|s| &s.files).map(|f| (&f.meta.location, f)).collect();
        let version = i64::try_from(state.version()).unwrap_or(i64::MAX);
        let files = state
            .log_data()
            .into_iter()
            .map(|view| match known.get(&view.object_store_path()) {
                Some(file) => Ok((*file).clone()),
                None => File::new(table, &view, version),
            })
            .collect::<Result<_, DeltaTableError>>()?;
        Ok(Self { state, files, covered })
    }

    /// The same version with only some of its files.
    pub(crate) fn only(&self, which: impl Fn(&File) -> bool) -> Self {
        let files = self.files.iter().filter(|file| which(file)).cloned().collect();
        Self { state: self.state.clone(), files, covered: self.covered.clone() }
    }

    /// The version in the Delta log; every commit, also of a merge, is the next one.
    #[must_use]
    pub fn version(&self) -> i64 {
        i64::try_from(self.state.version()).unwrap_or(i64::MAX)
    }

    /// The first offset that it does not cover, per partition.
    #[must_use]
    pub const fn covered(&self) -> &Covered {
        &self.covered
    }

    /// The number of its data files.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Its data files, in no particular order.
    pub fn data_files(&self) -> impl Iterator<Item = DataFile<'_>> {
        self.files.iter().map(|file| DataFile {
            day: file.date,
            rows: file.rows,
            bytes: file.meta.size,
            devices: file.bounds.by.as_ref().map(|by| (by.min.as_str(), by.max.as_str())),
        })
    }

    /// The actions that remove files. `data_change` is false if other files keep their rows.
    pub(crate) fn removes<'a>(
        &self,
        files: impl IntoIterator<Item = &'a File>,
        data_change: bool,
    ) -> Vec<Action> {
        let gone: HashSet<&Path> = files.into_iter().map(|f| &f.meta.location).collect();
        let views = self.state.log_data().into_iter();
        let gone = views.filter(|view| gone.contains(&view.object_store_path()));
        gone.map(|view| Action::Remove(view.remove_action(data_change))).collect()
    }

    /// The size of its data files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.meta.size).sum()
    }
}

impl File {
    fn new(table: Table, view: &LogicalFileView, since: i64) -> Result<Self, DeltaTableError> {
        let date = view.partition_values_map().remove(DATE).flatten();
        Ok(Self {
            meta: ObjectMeta::try_from(view)?,
            // A day that can't be parsed becomes 1970-01-01, which retention never removes.
            date: date.as_deref().and_then(Date32Type::parse).unwrap_or(0),
            rows: view.num_records(),
            bounds: Arc::new(statistics(view).bounds(table)),
            since,
        })
    }

    /// A file without statistics, for tests of what is decided by names and versions.
    #[cfg(test)]
    pub(crate) fn named(name: &str, since: i64) -> Self {
        let meta = ObjectMeta {
            location: Path::from(name),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        Self { meta, date: 0, rows: None, bounds: Arc::default(), since }
    }
}

/// The statistics of a file. Missing or malformed ones count as unknown, which only costs pruning.
fn statistics(view: &LogicalFileView) -> Statistics {
    view.stats().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// The statistics of an entry of the Delta log (Delta protocol, "Per-file Statistics").
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Statistics {
    min_values: HashMap<String, Value>,
    max_values: HashMap<String, Value>,
    null_count: HashMap<String, Value>,
}

/// What cutting a time to milliseconds can have removed.
const CUT: Micros = 999;

impl Statistics {
    fn of<T>(&self, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<MinMax<T>> {
        let (min, max) = (self.min_values.get(name)?, self.max_values.get(name)?);
        Some(MinMax { min: read(min)?, max: read(max)? })
    }

    fn bounds(&self, table: Table) -> Bounds {
        let [by, time] = table.sort_columns();
        // Nulls sort before all names, and are not part of min and max.
        let whole = self.null_count.get(by).and_then(Value::as_i64) == Some(0);
        let times = self.of(time, |v| v.as_str().and_then(parse_rfc3339));
        Bounds {
            by: self.of(by, |v| v.as_str().map(str::to_owned)).filter(|_| whole),
            time: times.map(|times| MinMax { max: times.max + CUT, ..times }),
            offset: self.of("offset", Value::as_i64),
        }
    }
}

#[cfg(test)]
mod tests;
