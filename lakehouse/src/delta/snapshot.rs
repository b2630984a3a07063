//! A version of a table: its files with what is known of them, and the offsets that they cover.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use acuvim_schemas::{
    tables::{DATE, Table},
    time::{Micros, parse_rfc3339},
};
use arrow::{array::types::Date32Type, compute::kernels::cast_utils::Parser as _};
use deltalake::{
    DeltaTableError,
    kernel::{Action, LogicalFileView},
    table::state::DeltaTableState,
};
use object_store::{ObjectMeta, path::Path};
use serde::Deserialize;
use serde_json::Value;

use crate::Error;

/// The next offset behind what a table holds, per partition; a partition it has never seen is not
/// in it.
pub type Covered = BTreeMap<u32, i64>;

/// A version of a table: its files, and the log offsets that their rows cover. Never changes.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) state: DeltaTableState,
    pub(crate) files: Vec<File>,
    pub(crate) covered: Covered,
}

/// A data file of a snapshot, for those who look after storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFile<'a> {
    /// The day of its rows, in days since 1970-01-01.
    pub day: i32,
    /// How many rows it has, if the table says.
    pub rows: Option<usize>,
    /// Its size.
    pub bytes: u64,
    /// The first and the last of its devices, if the table says and every row names one.
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
    /// The version by which this process knew of it: it came with that one, or before.
    pub since: i64,
}

/// The least and the greatest of what files are pruned and ordered by; none where nothing is known.
/// The greatest time may be a little greater: Delta's statistics have milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Of the first sort column; none also if one row has none.
    pub by: Option<(String, String)>,
    /// Of the second, the time.
    pub time: Option<(Micros, Micros)>,
    /// Of the place in the log.
    pub offset: Option<(i64, i64)>,
}

impl Snapshot {
    /// A version of a table; what is known of files that the version before had is taken from it.
    pub(crate) fn new(
        table: Table,
        state: DeltaTableState,
        covered: Covered,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
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

    /// The same with some of its files alone.
    pub(crate) fn only(&self, which: impl Fn(&File) -> bool) -> Self {
        let files = self.files.iter().filter(|file| which(file)).cloned().collect();
        Self { state: self.state.clone(), files, covered: self.covered.clone() }
    }

    /// The Delta version.
    #[must_use]
    pub fn version(&self) -> i64 {
        i64::try_from(self.state.version()).unwrap_or(i64::MAX)
    }

    /// The next offset behind its rows, per partition.
    #[must_use]
    pub const fn covered(&self) -> &Covered {
        &self.covered
    }

    /// How many data files it has.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Its data files.
    pub fn data_files(&self) -> impl Iterator<Item = DataFile<'_>> {
        self.files.iter().map(|file| DataFile {
            day: file.date,
            rows: file.rows,
            bytes: file.meta.size,
            devices: file.bounds.by.as_ref().map(|(a, b)| (a.as_str(), b.as_str())),
        })
    }

    /// What takes files out of the table; `data_change` says whether rows go with them.
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

    /// Bytes of its data files.
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
            date: date.as_deref().and_then(Date32Type::parse).unwrap_or(0),
            rows: view.num_records(),
            bounds: Arc::new(statistics(view).bounds(table)),
            since,
        })
    }
}

/// What the Delta log says of a file; nothing where it says nothing that can be read.
fn statistics(view: &LogicalFileView) -> Statistics {
    view.stats().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// The statistics of an entry of the Delta log (Delta protocol, "Per-file statistics"). Its times are
/// cut to milliseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Statistics {
    min_values: HashMap<String, Value>,
    max_values: HashMap<String, Value>,
    null_count: HashMap<String, Value>,
}

/// What a cut to milliseconds may have taken off.
const CUT: Micros = 999;

impl Statistics {
    fn of<T>(&self, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<(T, T)> {
        Some((read(self.min_values.get(name)?)?, read(self.max_values.get(name)?)?))
    }

    fn bounds(&self, table: Table) -> Bounds {
        let [by, time] = table.sort_columns();
        let whole = self.null_count.get(by).and_then(Value::as_i64) == Some(0);
        let times = self.of(time, |v| v.as_str().and_then(parse_rfc3339));
        Bounds {
            by: self.of(by, |v| v.as_str().map(str::to_owned)).filter(|_| whole),
            time: times.map(|(least, greatest)| (least, greatest + CUT)),
            offset: self.of("offset", Value::as_i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_what_delta_says_and_never_narrower() {
        let text = r#"{"numRecords":3,
            "minValues":{"device_id":"a","ts":"2026-05-16T17:05:32.250Z","offset":7},
            "maxValues":{"device_id":"c","ts":"2026-05-16T17:05:33.250Z","offset":9},
            "nullCount":{"device_id":0,"ts":0}}"#;
        let stats: Statistics = serde_json::from_str(text).expect("statistics");
        let bounds = stats.bounds(Table::Telemetry);
        assert_eq!(bounds.by, Some(("a".into(), "c".into())));
        assert_eq!(bounds.time, Some((1_778_951_132_250_000, 1_778_951_133_250_999)));
        assert_eq!(bounds.offset, Some((7, 9)));
        assert_eq!(Statistics::default().bounds(Table::Telemetry), Bounds::default());
    }

    #[test]
    fn a_file_with_a_row_of_no_device_is_before_nothing() {
        let text = r#"{"minValues":{"device_id":"a"},"maxValues":{"device_id":"c"},
            "nullCount":{"device_id":1}}"#;
        let stats: Statistics = serde_json::from_str(text).expect("statistics");
        assert_eq!(stats.bounds(Table::DeadLetters).by, None);
    }
}
