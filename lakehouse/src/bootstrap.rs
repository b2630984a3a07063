//! What a process reads from the tables before it follows partitions: the newest time and the latest
//! reading of each device. It reads little, however old the tables are.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use acuvim_tables::Table;
use acuvim_wire::time::{DAY, Micros, SECOND};
use arrow::{array::BooleanArray, compute::filter_record_batch};
use datafusion::{
    functions_aggregate::expr_fn::max,
    logical_expr::Expr,
    prelude::{col, lit},
};
use futures::TryStreamExt as _;

use crate::{
    batch::{device_times, timestamp},
    delta::{Covered, Snapshot},
    error::Error,
    memory::{LiveState, Newest},
    rollup::Rollups,
    view::{Reader, UnionTable},
};

/// The most devices in the condition of one query. From as many on, devices whose latest readings fall
/// into one minute are read by that minute.
const MAX_DEVICES: usize = 50;

const MINUTE: Micros = 60 * SECOND;

/// The days of heartbeats that are read. An older heartbeat that arrives late is looked up when it comes.
const HEARTBEAT_DAYS: i32 = 30;

/// A device with a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct DeviceTime {
    device: String,
    ts: Micros,
}

/// Fills the memory of some partitions from the tables.
pub(crate) struct Bootstrap<'a> {
    pub reader: &'a Reader,
    pub rollups: &'a Rollups,
    pub live: &'a LiveState,
    pub partitions: &'a BTreeSet<u32>,
}

impl Bootstrap<'_> {
    /// Reads the newest time and the latest reading of each device at a version of `telemetry`.
    pub async fn load_readings(&self, telemetry: &Arc<Snapshot>) -> Result<(), Error> {
        let rows = self.reader.files(Table::Telemetry, telemetry)?;
        let found = match self.days_behind(telemetry).await? {
            Some(days) => {
                // Days have the newest time of each device. Only readings that they do not cover are read.
                let beyond = self.beyond(days.covered());
                let unseen = self.rollups.unseen(telemetry).await?;
                let unseen = self.reader.files(Table::Telemetry, &unseen)?;
                let days = self.reader.files(Table::RollupDaily, &days)?;
                let newest = &self.live.newest;
                let mut found = self.load_newest(days, "last_ts", lit(true), newest).await?;
                found.extend(self.load_newest(unseen, "ts", beyond, newest).await?);
                found
            }
            None => {
                let all = Arc::clone(&rows);
                self.load_newest(all, "ts", lit(true), &self.live.newest).await?
            }
        };
        let devices: BTreeSet<String> = found.into_iter().map(|found| found.device).collect();
        let newest = |device: &String| {
            let ts = self.live.newest.get(device)?;
            Some(DeviceTime { device: device.clone(), ts })
        };
        self.load_latest(&rows, devices.iter().filter_map(newest).collect()).await?;
        // If the newest reading of a device came from a wrong clock, its latest is an older one.
        let without = |device: &String| !self.live.latest.has(device);
        let without: Vec<String> = devices.into_iter().filter(without).collect();
        let plausible = self.newest_plausible(&rows, &without).await?;
        self.load_latest(&rows, plausible).await
    }

    /// Reads the time of the newest heartbeat of each device.
    pub async fn load_heartbeats(&self) -> Result<(), Error> {
        let heartbeats = self.reader.tables.snapshot(Table::Heartbeats)?;
        let Some(last) = heartbeats.files.iter().map(|f| f.date).max() else { return Ok(()) };
        let from = i64::from(last - HEARTBEAT_DAYS) * DAY;
        let rows = self.reader.files(Table::Heartbeats, &heartbeats)?;
        let newest = &self.live.newest_heartbeats;
        // Before anything is read: if reading fails, times below are still treated as unknown.
        newest.know_from(from - 1);
        self.load_newest(rows, "ts", col("ts").gt_eq(timestamp(from)), newest).await?;
        Ok(())
    }

    /// The daily rollups, if they are complete and cover no more than a version of `telemetry`.
    async fn days_behind(&self, telemetry: &Snapshot) -> Result<Option<Arc<Snapshot>>, Error> {
        if !self.reader.tables.options.guards.skip_by_offset() || !self.rollups.are_built().await? {
            return Ok(None);
        }
        let days = self.reader.tables.snapshot(Table::RollupDaily)?;
        let at = |p: &u32| telemetry.covered().get(p).copied().unwrap_or(0);
        let behind = days.covered().iter().all(|(p, next)| *next <= at(p));
        Ok(behind.then_some(days))
    }

    /// The condition that a reading lies beyond the offsets that the rollups cover.
    fn beyond(&self, covered: &Covered) -> Expr {
        let at = |p: u32| covered.get(&p).copied().unwrap_or(0);
        let beyond = |p: u32| self.reader.is_from(p, at(p)..i64::MAX);
        let partitions = 0..self.reader.tables.options.partitions;
        partitions.map(beyond).reduce(Expr::or).unwrap_or_else(|| lit(false))
    }

    /// Records the newest time of each device of the partitions, and returns these devices.
    async fn load_newest(
        &self,
        rows: Arc<UnionTable>,
        time: &str,
        which: Expr,
        newest: &Newest,
    ) -> Result<Vec<DeviceTime>, Error> {
        let mut rows = self
            .reader
            .query(rows)?
            .filter(which)?
            .aggregate(vec![col("device_id")], vec![max(col(time)).alias("ts")])?
            .execute_stream()
            .await?;
        let mut found = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            for (device, ts) in device_times(std::slice::from_ref(&batch))? {
                if self.partitions.contains(&newest.partition(device)) {
                    newest.note(device, ts);
                    found.push(DeviceTime { device: device.to_owned(), ts });
                }
            }
        }
        Ok(found)
    }

    /// The newest reading of each device that does not lie ahead of its arrival.
    async fn newest_plausible(
        &self,
        telemetry: &Arc<UnionTable>,
        devices: &[String],
    ) -> Result<Vec<DeviceTime>, Error> {
        let mut found = Vec::new();
        for some in devices.chunks(MAX_DEVICES) {
            let theirs = some.iter().map(|device| lit(device.as_str())).collect();
            let rows = self
                .reader
                .query(Arc::clone(telemetry))?
                .filter(col("device_id").in_list(theirs, false).and(self.reader.is_plausible()))?
                .aggregate(vec![col("device_id")], vec![max(col("ts")).alias("ts")])?
                .collect()
                .await?;
            let owned = |(device, ts): (&str, Micros)| DeviceTime { device: device.to_owned(), ts };
            found.extend(device_times(&rows)?.into_iter().map(owned));
        }
        Ok(found)
    }

    /// Reads the rows with the given times. Of a whole fleet that is online, most fall into the same few
    /// minutes and are read together; the others are read by device.
    async fn load_latest(
        &self,
        telemetry: &Arc<UnionTable>,
        mut wanted: Vec<DeviceTime>,
    ) -> Result<(), Error> {
        wanted.sort_by_key(|of| of.ts);
        let asked = wanted.iter().map(|of| (of.device.as_str(), of.ts)).collect();
        let mut single = Vec::new();
        for minute in wanted.chunk_by(|a, b| a.ts / MINUTE == b.ts / MINUTE) {
            match minute {
                [first, .., last] if minute.len() >= MAX_DEVICES => {
                    let from = col("ts").gt_eq(timestamp(first.ts));
                    let within = from.and(col("ts").lt_eq(timestamp(last.ts)));
                    self.note_latest(telemetry, within, &asked).await?;
                }
                _ => single.extend_from_slice(minute),
            }
        }
        for some in single.chunks(MAX_DEVICES) {
            let is_it = |of: &DeviceTime| {
                col("device_id").eq(lit(of.device.as_str())).and(col("ts").eq(timestamp(of.ts)))
            };
            if let Some(any) = some.iter().map(is_it).reduce(Expr::or) {
                self.note_latest(telemetry, any, &asked).await?;
            }
        }
        Ok(())
    }

    async fn note_latest(
        &self,
        telemetry: &Arc<UnionTable>,
        which: Expr,
        asked: &HashMap<&str, Micros>,
    ) -> Result<(), Error> {
        let mut rows =
            self.reader.query(Arc::clone(telemetry))?.filter(which)?.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            // A minute also has older readings, and devices of partitions that are not followed. Noted as
            // the latest they would stay so: nothing would correct them.
            let pairs = device_times(std::slice::from_ref(&batch))?;
            let theirs = pairs.iter().map(|(device, ts)| asked.get(device) == Some(ts));
            let theirs: BooleanArray = theirs.map(Some).collect();
            self.live.latest.note(&filter_record_batch(&batch, &theirs)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
