//! What a process learns of the tables before it follows a partition: the newest of each device, and
//! the latest readings. However old the tables are, little of them is read for it.

use std::{collections::BTreeSet, sync::Arc};

use acuvim_schemas::{
    tables::Table,
    time::{DAY, Micros, SECOND},
};
use arrow::datatypes::DataType;
use datafusion::{
    functions_aggregate::expr_fn::max,
    logical_expr::{Expr, cast},
    prelude::{col, lit},
};
use futures::TryStreamExt as _;

use crate::{
    Covered, Error, Lake, Newest, Snapshot, UnionTable, View,
    lake::{device_times, timestamp},
};

/// So many devices are many.
const MANY: usize = 50;

const MINUTE: Micros = 60 * SECOND;

/// Days of heartbeats that are learnt; whether an older one is there is looked up when it comes.
const HEARTBEAT_DAYS: i32 = 30;

impl Lake {
    /// Learns of the readings of a version: the newest of each device, from its days as far as these
    /// are made, and from the readings beyond.
    pub(crate) async fn learn_readings(
        &self,
        telemetry: &Arc<Snapshot>,
        partitions: &BTreeSet<u32>,
    ) -> Result<(), Error> {
        let table = self.table(Table::Telemetry)?;
        let view = View::of_files(table, telemetry);
        let newest = self.newest();
        let known = match self.days_behind(telemetry).await? {
            Some(days) => {
                let beyond = self.beyond(days.covered());
                let days = View::of_files(self.table(Table::RollupDaily)?, &days);
                let unseen = View::of_files(table, &self.not_seen(telemetry).await?);
                let mut known = learn(self, days, "last_ts", lit(true), partitions, newest).await?;
                known.extend(learn(self, unseen, "ts", beyond, partitions, newest).await?);
                known
            }
            None => learn(self, Arc::clone(&view), "ts", lit(true), partitions, newest).await?,
        };
        let newest = |(device, _): (String, Micros)| {
            let ts = newest.get(&device)?;
            Some((device, ts))
        };
        let mut known: Vec<_> = known.into_iter().filter_map(newest).collect();
        known.sort();
        known.dedup();
        let devices: Vec<String> = known.iter().map(|(device, _)| device.clone()).collect();
        self.learn_latest(&view, known).await?;
        // Whose newest is of a clock that is wrong has an older one that is its latest.
        let without = |device: &String| !self.latest().has(device);
        let without: Vec<String> = devices.into_iter().filter(without).collect();
        let of_now = self.newest_of_now(&view, &without).await?;
        self.learn_latest(&view, of_now).await
    }

    /// The newest reading of each of some devices that is not ahead of its arrival.
    async fn newest_of_now(
        &self,
        telemetry: &Arc<UnionTable>,
        devices: &[String],
    ) -> Result<Vec<(String, Micros)>, Error> {
        let mut found = Vec::new();
        for some in devices.chunks(MANY) {
            let theirs = some.iter().map(|device| lit(device.as_str())).collect();
            let rows = self.engine().session().read_table(Arc::clone(telemetry) as _)?;
            let rows = rows
                .filter(col("device_id").in_list(theirs, false).and(self.is_of_now()))?
                .aggregate(vec![col("device_id")], vec![max(col("ts")).alias("ts")])?
                .collect()
                .await?;
            let own = |(device, ts): (&str, Micros)| (device.to_owned(), ts);
            found.extend(device_times(&rows)?.into_iter().map(own));
        }
        Ok(found)
    }

    /// Whether a reading is not ahead of its arrival by more than clocks differ.
    pub(crate) fn is_of_now(&self) -> Expr {
        let whole = |name: &str| cast(col(name), DataType::Int64);
        whole("ts").lt_eq(whole("received_at") + lit(self.options.max_ahead))
    }

    /// Learns of the newest heartbeat of each device of late.
    pub(crate) async fn learn_heartbeats(&self, partitions: &BTreeSet<u32>) -> Result<(), Error> {
        let heartbeats = self.snapshot(Table::Heartbeats)?;
        let Some(last) = self.newest_day(Table::Heartbeats) else { return Ok(()) };
        let from = i64::from(last - HEARTBEAT_DAYS) * DAY;
        let view = View::of_files(self.table(Table::Heartbeats)?, &heartbeats);
        let newest = self.newest_heartbeats();
        newest.know_from(from - 1);
        learn(self, view, "ts", col("ts").gt_eq(timestamp(from)), partitions, newest).await?;
        Ok(())
    }

    /// The days, if they are made and cover no more than a version of `telemetry` does.
    async fn days_behind(&self, telemetry: &Snapshot) -> Result<Option<Arc<Snapshot>>, Error> {
        if !self.options.skip_by_offset || !self.rollups_are_built().await? {
            return Ok(None);
        }
        let days = self.snapshot(Table::RollupDaily)?;
        let at = |p: &u32| telemetry.covered().get(p).copied().unwrap_or(0);
        let behind = days.covered().iter().all(|(p, next)| *next <= at(p));
        Ok(behind.then_some(days))
    }

    /// The readings beyond some offsets.
    fn beyond(&self, covered: &Covered) -> Expr {
        let at = |p: u32| covered.get(&p).copied().unwrap_or(0);
        let beyond = |p: u32| self.of_partition(p, at(p), i64::MAX);
        (0..self.options.partitions).map(beyond).reduce(Expr::or).unwrap_or_else(|| lit(false))
    }

    /// Reads the latest rows of devices whose newest `ts` are known: those of one minute together, if
    /// they are many, and the others by name.
    async fn learn_latest(
        &self,
        telemetry: &Arc<UnionTable>,
        mut known: Vec<(String, Micros)>,
    ) -> Result<(), Error> {
        known.sort_by_key(|(_, ts)| *ts);
        let mut single = Vec::new();
        for minute in known.chunk_by(|a, b| a.1 / MINUTE == b.1 / MINUTE) {
            match minute {
                [(_, first), .., (_, last)] if minute.len() >= MANY => {
                    let from_to =
                        col("ts").gt_eq(timestamp(*first)).and(col("ts").lt_eq(timestamp(*last)));
                    self.note_latest(telemetry, from_to).await?;
                }
                _ => single.extend_from_slice(minute),
            }
        }
        for some in single.chunks(MANY) {
            let pair = |(device, ts): &(String, Micros)| {
                col("device_id").eq(lit(device.as_str())).and(col("ts").eq(timestamp(*ts)))
            };
            if let Some(any) = some.iter().map(pair).reduce(Expr::or) {
                self.note_latest(telemetry, any).await?;
            }
        }
        Ok(())
    }

    async fn note_latest(&self, telemetry: &Arc<UnionTable>, filter: Expr) -> Result<(), Error> {
        let rows = self.engine().session().read_table(Arc::clone(telemetry) as _)?;
        let mut rows = rows.filter(filter)?.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            self.latest().note(&batch)?;
        }
        Ok(())
    }
}

/// Notes the newest of each device of some partitions; answers with them.
async fn learn(
    lake: &Lake,
    rows: Arc<UnionTable>,
    time: &str,
    which: Expr,
    partitions: &BTreeSet<u32>,
    newest: &Newest,
) -> Result<Vec<(String, Micros)>, Error> {
    let mut rows = lake
        .engine()
        .session()
        .read_table(rows as _)?
        .filter(which)?
        .aggregate(vec![col("device_id")], vec![max(col(time)).alias("ts")])?
        .execute_stream()
        .await?;
    let mut known = Vec::new();
    while let Some(batch) = rows.try_next().await? {
        for (device, ts) in device_times(std::slice::from_ref(&batch))? {
            if partitions.contains(&newest.partition(device)) {
                newest.note(device, ts);
                known.push((device.to_owned(), ts));
            }
        }
    }
    Ok(known)
}
