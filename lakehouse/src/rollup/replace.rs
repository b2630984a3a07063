//! The commit that replaces buckets of a rollup table, and moves the offsets it covers.

use std::{collections::BTreeMap, sync::Arc};

use acuvim_tables::Table;
use acuvim_wire::time::{DAY, Micros, day_of};
use arrow::{
    array::{AsArray as _, BooleanArray, RecordBatch},
    compute::filter_record_batch,
};
use datafusion::physical_plan::execute_stream;
use deltalake::{
    kernel::{Add, Transaction},
    protocol::DeltaOperation,
};
use futures::TryStreamExt as _;

use super::{keys::BucketKeys, store::RollupStore};
use crate::{
    batch::{column, times},
    delta::{
        Covered,
        commit::Replacement,
        scan::FileScan,
        snapshot::File,
        table::LakeTable,
        writer::{delta_writer, write_sorted},
    },
    error::{Error, ErrorKind},
};

/// Rows per batch while the remaining rows of a file are copied.
const COPY_BATCH: usize = 1024;

/// The buckets that a commit removes.
pub(super) enum Removed<'a> {
    Nothing,
    /// Certain buckets.
    Keys(&'a BucketKeys),
    /// All buckets of some devices from a time on.
    Since(&'a BTreeMap<Arc<str>, Micros>),
}

/// How far a commit moves a rollup table.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The offsets that the table covered when the work began. If they have changed since, another
    /// process is at work, and the commit is refused.
    pub expected: Covered,
    /// The offsets that it covers with the commit; empty if they do not move.
    pub covered: Covered,
    /// The first day of history that is not built yet, or [`BUILT`].
    pub next_day: Option<i64>,
    /// The version of `telemetry` whose readings are all covered.
    pub seen: Option<i64>,
}

impl Progress {
    /// No progress, for commits that only change buckets.
    pub fn none(expected: &Covered) -> Self {
        Self { expected: expected.clone(), ..Self::default() }
    }
}

/// The value of [`Progress::next_day`] once all history is built.
pub(super) const BUILT: i64 = i64::MAX;

/// The app id under which the table records [`Progress::next_day`]. The number in it is raised when
/// rollups are computed differently, so that they are built again.
pub(super) fn next_day_id(epoch: i32) -> String {
    format!("rollup_made_2:{epoch}")
}

/// The app id under which the table records [`Progress::seen`].
pub(super) fn seen_id(epoch: i32) -> String {
    format!("rollup_seen:{epoch}")
}

impl Removed<'_> {
    fn contains(&self, device: &str, start: Micros) -> bool {
        match self {
            Self::Nothing => false,
            Self::Keys(keys) => keys.get(device).is_some_and(|starts| starts.contains(&start)),
            Self::Since(devices) => devices.get(device).is_some_and(|from| start >= *from),
        }
    }

    /// Whether a file can contain one of the buckets.
    fn may_be_in(&self, file: &File) -> bool {
        let within = |device: &str| {
            let names = file.bounds.by.as_ref();
            names.is_none_or(|names| (names.min.as_str()..=&names.max).contains(&device))
        };
        match self {
            Self::Nothing => false,
            Self::Keys(keys) => {
                let day = |start: &Micros| day_of(*start) == file.date;
                keys.iter().any(|(device, starts)| within(device) && starts.iter().any(day))
            }
            Self::Since(devices) => devices.iter().any(|(device, from)| {
                within(device) && i64::from(file.date) >= from.div_euclid(DAY)
            }),
        }
    }

    /// The rows that stay.
    fn filter(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let devices = column(rows, "device_id")?.as_string::<i32>();
        let pairs = devices.iter().flatten().zip(times(rows, "ts")?);
        let stay: Vec<bool> = pairs.map(|(device, ts)| !self.contains(device, *ts)).collect();
        Ok(filter_record_batch(rows, &BooleanArray::from(stay))?)
    }
}

impl RollupStore {
    /// Replaces buckets by rows in one commit, so that no reader sees neither or both.
    pub(super) async fn replace(
        &self,
        kind: Table,
        removed: &Removed<'_>,
        rows: &[RecordBatch],
        progress: &Progress,
    ) -> Result<(), Error> {
        let table = self.table(kind)?;
        let _removing = table.removing.lock().await;
        let base = table.current();
        // Two processes that roll up at once would each compute from the counters that the other
        // one is about to replace.
        if *base.covered() != progress.expected {
            let text = format!("another process brings {} up to date", kind.name());
            return Err(Error::new(ErrorKind::Overtaken, text));
        }
        let old: Vec<&File> = base.files.iter().filter(|f| removed.may_be_in(f)).collect();
        let mut adds = Vec::new();
        for file in &old {
            adds.extend(self.copy_rest(table, file, removed).await?);
        }
        if !rows.is_empty() {
            adds.extend(write_sorted(table, rows).await?);
        }
        let removes = base.removes(old, true);
        let epoch = self.epoch();
        let mut transactions: Vec<Transaction> = Vec::new();
        transactions.extend(progress.next_day.map(|day| Transaction::new(next_day_id(epoch), day)));
        transactions.extend(progress.seen.map(|v| Transaction::new(seen_id(epoch), v)));
        // A commit that changes nothing would still be a version that all readers have to load.
        let moves = !progress.covered.is_empty() || !transactions.is_empty();
        if adds.is_empty() && removes.is_empty() && !moves {
            return Ok(());
        }
        let replacement = Replacement {
            removes,
            adds,
            covered: progress.covered.clone(),
            transactions,
            operation: DeltaOperation::Update { predicate: None },
        };
        let committing = table.committing.lock().await;
        table.replace(&committing, &base, replacement).await
    }

    /// Writes the rows of a file that stay to a new one, in the same order.
    async fn copy_rest(
        &self,
        table: &LakeTable,
        file: &File,
        removed: &Removed<'_>,
    ) -> Result<Vec<Add>, Error> {
        let session = self.reader.engine.merging(COPY_BATCH);
        let scan = FileScan::merging(table, vec![file.clone()]).plan(&session.state())?;
        let Some(scan) = scan else { return Ok(Vec::new()) };
        let mut rows = execute_stream(scan, session.task_ctx())?;
        let mut writer = delta_writer(table)?;
        while let Some(batch) = rows.try_next().await? {
            let rest = removed.filter(&batch)?;
            if rest.num_rows() > 0 {
                // The schema of the scan has metadata of the engine, which the writer does not
                // accept.
                let columns = rest.columns().to_vec();
                writer.write(&RecordBatch::try_new(table.kind.schema(), columns)?).await?;
            }
        }
        Ok(writer.close().await?)
    }
}

#[cfg(test)]
mod tests;
