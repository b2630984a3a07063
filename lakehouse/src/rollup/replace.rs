//! A commit that puts buckets in the place of what was there, and moves what the table covers.

use std::{collections::BTreeMap, sync::Arc};

use acuvim_schemas::{
    tables::Table,
    time::{DAY, Micros, day_of},
};
use arrow::{
    array::{AsArray as _, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::TimestampMicrosecondType,
};
use datafusion::physical_plan::execute_stream;
use deltalake::{
    kernel::{Action, Add, Transaction, transaction::CommitBuilder},
    protocol::DeltaOperation,
};
use futures::TryStreamExt as _;

use super::keys::Keys;
use crate::{
    Covered, Error, ErrorKind, Lake,
    files::{FileScan, Order},
    snapshot::File,
    table::{LakeTable, properties},
    writer::{column, delta_writer, write_sorted},
};

/// What takes its leave.
pub(super) enum Gone<'a> {
    Nothing,
    /// These buckets.
    Keys(&'a Keys),
    /// All of these devices from a time on.
    Since(&'a BTreeMap<Arc<str>, Micros>),
}

/// What a commit moves, and what it was worked out of.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// What the table covered by then: if it is something else now, another process was at work.
    pub expected: Covered,
    /// What it covers behind the commit.
    pub covered: Covered,
    /// Up to which day all is made.
    pub made: Option<i64>,
    /// The version of `telemetry` all of which is covered.
    pub seen: Option<i64>,
}

pub(super) fn made_id(epoch: i32) -> String {
    // Counted as they are counted now: what an earlier version made is made anew.
    format!("rollup_made_2:{epoch}")
}

pub(super) fn seen_id(epoch: i32) -> String {
    format!("rollup_seen:{epoch}")
}

impl Gone<'_> {
    fn has(&self, device: &str, start: Micros) -> bool {
        match self {
            Self::Nothing => false,
            Self::Keys(keys) => keys.get(device).is_some_and(|starts| starts.contains(&start)),
            Self::Since(devices) => devices.get(device).is_some_and(|from| start >= *from),
        }
    }

    /// Whether a file could have any of it.
    fn may_be_in(&self, file: &File) -> bool {
        let within = |device: &str| {
            file.bounds.by.as_ref().is_none_or(|(a, b)| (a.as_str()..=b).contains(&device))
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

    fn rest_of(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let devices = column(rows, "device_id")?.as_string::<i32>();
        let times = column(rows, "ts")?.as_primitive::<TimestampMicrosecondType>().values();
        let stay = devices.iter().flatten().zip(times).map(|(device, ts)| !self.has(device, *ts));
        Ok(filter_record_batch(
            rows,
            &stay.collect::<Vec<bool>>().into_iter().map(Some).collect::<BooleanArray>(),
        )?)
    }
}

impl Lake {
    /// Commits rows in the place of what is gone. Whatever reads the table meanwhile sees the one or
    /// the other.
    pub(super) async fn replace(
        &self,
        table: Table,
        gone: &Gone<'_>,
        rows: &[RecordBatch],
        moves: &Moves,
    ) -> Result<(), Error> {
        let table = self.table(table)?;
        let _alone = table.rewriting.lock().await;
        let base = table.current();
        if *base.covered() != moves.expected {
            let text = format!("another process brings {} up to date", table.table.name());
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        let old: Vec<&File> = base.files.iter().filter(|f| gone.may_be_in(f)).collect();
        let mut adds = Vec::new();
        for file in &old {
            adds.extend(self.rest_of(table, file, gone).await?);
        }
        if !rows.is_empty() {
            adds.extend(write_sorted(table, rows).await?);
        }
        let removes = base.removes(old, true);
        let epoch = self.epoch();
        let mut notes: Vec<Transaction> = Vec::new();
        notes.extend(moves.made.map(|day| Transaction::new(made_id(epoch), day)));
        notes.extend(moves.seen.map(|version| Transaction::new(seen_id(epoch), version)));
        if adds.is_empty() && removes.is_empty() && notes.is_empty() && moves.covered.is_empty() {
            return Ok(());
        }
        table.commit_replaced(&base, removes, adds, (&moves.covered, notes)).await
    }

    /// What stays of a file, written anew in the same order.
    async fn rest_of(
        &self,
        table: &LakeTable,
        file: &File,
        gone: &Gone<'_>,
    ) -> Result<Vec<Add>, Error> {
        let session = self.engine().merging(1024);
        let scan = FileScan {
            table,
            files: vec![file.clone()],
            projection: None,
            filters: &[],
            limit: None,
            order: Order::PerFile,
        };
        let Some(scan) = scan.plan(&session.state())? else { return Ok(Vec::new()) };
        let mut rows = execute_stream(scan, session.task_ctx())?;
        let mut writer = delta_writer(table)?;
        while let Some(batch) = rows.try_next().await? {
            let rest = gone.rest_of(&batch)?;
            if rest.num_rows() > 0 {
                let columns = rest.columns().to_vec();
                writer.write(&RecordBatch::try_new(table.table.schema(), columns)?).await?;
            }
        }
        Ok(writer.close().await?)
    }
}

impl LakeTable {
    async fn commit_replaced(
        &self,
        base: &crate::Snapshot,
        removes: Vec<Action>,
        adds: Vec<Add>,
        (moves, notes): (&Covered, Vec<Transaction>),
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        // The same as a compaction's, so that of the two on the same files one fails.
        let mut transactions = vec![Transaction::new(self.rewrite_id(), base.version())];
        let covers = |(p, next): (&u32, &i64)| Transaction::new(self.app_id(*p), next - 1);
        transactions.extend(moves.iter().map(covers));
        transactions.extend(notes);
        let newest = self.current();
        let actions = removes.into_iter().chain(adds.into_iter().map(Action::Add)).collect();
        let committed =
            CommitBuilder::from(properties().with_application_transactions(transactions))
                .with_actions(actions)
                .build(
                    Some(&base.state),
                    Arc::clone(&self.log_store),
                    DeltaOperation::Update { predicate: None },
                )
                .await;
        match committed {
            Ok(commit) => {
                let mut covered = newest.covered.clone();
                covered.extend(moves);
                self.settle(&newest, commit.snapshot(), covered).await
            }
            Err(error) => {
                self.refresh(&newest).await?;
                Err(error.into())
            }
        }
    }
}
