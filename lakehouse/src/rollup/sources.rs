//! Queries for what rollups are computed from: readings, stored quarters and reported serial numbers.

use std::{collections::HashMap, ops::Range, sync::Arc};

use acuvim_tables::Table;
use acuvim_wire::{
    payload::serial_of,
    reading::READINGS,
    time::{DAY, Micros},
};
use arrow::array::AsArray as _;
use datafusion::{
    execution::SendableRecordBatchStream,
    functions_aggregate::expr_fn::{max, min},
    logical_expr::Expr,
    prelude::{col, lit},
};
use futures::TryStreamExt as _;

use super::{
    carries::{StoredQuarters, add_carries, carry_columns},
    counting::SerialAt,
    keys::{BucketKeys, add_key, quarter_of},
    store::RollupStore,
};
use crate::{
    batch::{column, device_times, timestamp},
    delta::{Covered, Snapshot},
    error::Error,
    view::{Reader, UnionTable, stored::is_within},
};

/// The most time ranges in the condition of one query. More are replaced by the range of all.
const MAX_SPANS: usize = 32;

/// Which quarter of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    First,
    Last,
}

/// The reported serial numbers of devices' meters, by time.
pub(super) type Serials = HashMap<Arc<str>, Vec<SerialAt>>;

/// A device with a time zone that its days were computed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredZone {
    pub device: Arc<str>,
    pub zone: String,
}

/// Some rows of one version of a table.
pub(super) struct Selection<'a> {
    pub table: Table,
    pub snapshot: &'a Arc<Snapshot>,
    pub devices: &'a [&'a str],
    pub spans: &'a [Range<Micros>],
}

impl RollupStore {
    /// The quarters of the readings between offsets.
    pub(super) async fn quarters_between(
        &self,
        telemetry: &Arc<Snapshot>,
        from: &Covered,
        to: &Covered,
    ) -> Result<BucketKeys, Error> {
        let at = |p: u32| from.get(&p).copied().unwrap_or(0);
        let new = to.iter().filter(|(p, to)| at(**p) < **to);
        let new = new.map(|(p, to)| self.reader.is_from(*p, at(*p)..*to)).reduce(Expr::or);
        match new {
            Some(new) => self.quarters(Table::Telemetry, telemetry, new).await,
            None => Ok(BucketKeys::new()),
        }
    }

    /// The quarters of the readings of a UTC day.
    pub(super) async fn quarters_on(
        &self,
        telemetry: &Arc<Snapshot>,
        day: i32,
    ) -> Result<BucketKeys, Error> {
        let from = i64::from(day) * DAY;
        self.quarters(Table::Telemetry, telemetry, is_within(&(from..from + DAY))).await
    }

    /// The stored quarters of devices.
    pub(super) async fn quarters_of(&self, devices: &[Arc<str>]) -> Result<BucketKeys, Error> {
        let snapshot = self.snapshot(Table::Rollup15m)?;
        let names: Vec<&str> = devices.iter().map(|device| &**device).collect();
        self.quarters(Table::Rollup15m, &snapshot, is_of(&names)).await
    }

    async fn quarters(
        &self,
        table: Table,
        snapshot: &Arc<Snapshot>,
        which: Expr,
    ) -> Result<BucketKeys, Error> {
        let mut rows = self.read(table, snapshot, which, &["device_id", "ts"]).await?;
        let mut keys = BucketKeys::new();
        while let Some(batch) = rows.try_next().await? {
            for (device, ts) in device_times(std::slice::from_ref(&batch))? {
                add_key(&mut keys, device, quarter_of(ts));
            }
        }
        Ok(keys)
    }

    /// Adds the first or the last stored quarter of each device within a range that may be long.
    pub(super) async fn add_nearest(
        &self,
        devices: &[&str],
        times: &Range<Micros>,
        which: Nearest,
        into: &mut StoredQuarters,
    ) -> Result<(), Error> {
        if devices.is_empty() {
            return Ok(());
        }
        let nearest = match which {
            Nearest::First => min(col("ts")),
            Nearest::Last => max(col("ts")),
        };
        let rows = self
            .reader
            .committed(Table::Rollup15m)?
            .filter(is_of(devices).and(is_within(times)))?
            .aggregate(vec![col("device_id")], vec![nearest.alias("ts")])?
            .collect()
            .await?;
        // One query per device: few are away for so long that this is needed.
        for (device, ts) in device_times(&rows)? {
            self.add_stored(&[device], &(ts..ts + 1), into).await?;
        }
        Ok(())
    }

    /// Adds the stored quarters of devices within a range.
    pub(super) async fn add_stored(
        &self,
        devices: &[&str],
        times: &Range<Micros>,
        into: &mut StoredQuarters,
    ) -> Result<(), Error> {
        // Only what counters continue from: the other hundred columns of a quarter would be decoded
        // for nothing.
        let columns = carry_columns();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let snapshot = self.snapshot(Table::Rollup15m)?;
        let selection = Selection {
            table: Table::Rollup15m,
            snapshot: &snapshot,
            devices,
            spans: std::slice::from_ref(times),
        };
        let mut rows = self.select(&selection, &columns).await?;
        while let Some(batch) = rows.try_next().await? {
            add_carries(&batch, into)?;
        }
        Ok(())
    }

    /// Reads columns of a selection.
    pub(super) async fn select(
        &self,
        selection: &Selection<'_>,
        columns: &[&str],
    ) -> Result<SendableRecordBatchStream, Error> {
        let Selection { table, snapshot, devices, spans } = *selection;
        let which = match (spans.first(), spans.last()) {
            (Some(first), Some(last)) if spans.len() > MAX_SPANS => {
                is_of(devices).and(is_within(&(first.start..last.end)))
            }
            _ => match spans.iter().map(is_within).reduce(Expr::or) {
                Some(times) => is_of(devices).and(times),
                None => lit(false),
            },
        };
        self.read(table, snapshot, which, columns).await
    }

    async fn read(
        &self,
        table: Table,
        snapshot: &Arc<Snapshot>,
        which: Expr,
        columns: &[&str],
    ) -> Result<SendableRecordBatchStream, Error> {
        let rows = self.reader.query(self.reader.files(table, snapshot)?)?.filter(which)?;
        Ok(rows.select_columns(columns)?.execute_stream().await?)
    }

    /// The serial numbers that committed heartbeats of devices report.
    pub(super) async fn serials(
        &self,
        devices: &[&str],
        times: &Range<Micros>,
    ) -> Result<Serials, Error> {
        let heartbeats = self.snapshot(Table::Heartbeats)?;
        let heartbeats = self.reader.files(Table::Heartbeats, &heartbeats)?;
        serials_in(&self.reader, heartbeats, devices, times).await
    }

    /// The time zones that the stored days of each device were computed for, from a time on.
    pub(super) async fn stored_zones(&self, from: Micros) -> Result<Vec<StoredZone>, Error> {
        let rows = self
            .reader
            .committed(Table::RollupDaily)?
            .filter(col("ts").gt_eq(timestamp(from)))?
            .select_columns(&["device_id", "time_zone"])?
            .distinct()?
            .sort(vec![col("device_id").sort(true, false)])?
            .collect()
            .await?;
        let mut zones = Vec::new();
        for batch in &rows {
            let devices = column(batch, "device_id")?.as_string::<i32>();
            let names = column(batch, "time_zone")?.as_string::<i32>();
            let pairs = devices.iter().flatten().zip(names.iter().map(Option::unwrap_or_default));
            let zone = |(device, zone): (&str, &str)| StoredZone {
                device: device.into(),
                zone: zone.to_owned(),
            };
            zones.extend(pairs.map(zone));
        }
        Ok(zones)
    }
}

/// The serial numbers that some heartbeats report.
pub(super) async fn serials_in(
    reader: &Reader,
    heartbeats: Arc<UnionTable>,
    devices: &[&str],
    times: &Range<Micros>,
) -> Result<Serials, Error> {
    let mut rows = reader
        .query(heartbeats)?
        .filter(is_of(devices).and(is_within(times)).and(col("meter_serial").is_not_null()))?
        .select_columns(&["device_id", "ts", "meter_serial"])?
        .execute_stream()
        .await?;
    let mut serials = Serials::new();
    while let Some(batch) = rows.try_next().await? {
        let texts = column(&batch, "meter_serial")?.as_string::<i32>();
        let pairs =
            device_times(std::slice::from_ref(&batch))?.into_iter().zip(texts.iter().flatten());
        for ((device, ts), text) in pairs {
            // Old rows may have padding, or what registers hold that could not be read.
            let Some(serial) = serial_of(text) else { continue };
            let at = SerialAt { ts, serial: serial.into() };
            match serials.get_mut(device) {
                Some(theirs) => theirs.push(at),
                None => {
                    serials.insert(device.into(), vec![at]);
                }
            }
        }
    }
    serials.values_mut().for_each(|theirs| theirs.sort_by_key(|at| at.ts));
    Ok(serials)
}

/// The columns that quarters are computed from.
pub(super) fn reading_columns() -> Vec<&'static str> {
    ["device_id", "ts"].into_iter().chain(READINGS.iter().map(|r| r.name)).collect()
}

/// The condition that a row belongs to one of some devices.
fn is_of(devices: &[&str]) -> Expr {
    let id = || col("device_id");
    match (devices, devices.iter().min(), devices.iter().max()) {
        ([one], ..) => id().eq(lit(*one)),
        (_, Some(first), Some(last)) => {
            // A long list does not prune files; the range does.
            let range = id().gt_eq(lit(*first)).and(id().lt_eq(lit(*last)));
            range.and(id().in_list(devices.iter().map(|d| lit(*d)).collect(), false))
        }
        _ => lit(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_devices_contains_all_of_them_in_any_order() {
        let condition = is_of(&["m", "z", "a"]).to_string();
        assert!(condition.contains(r#"device_id >= Utf8("a")"#), "{condition}");
        assert!(condition.contains(r#"device_id <= Utf8("z")"#), "{condition}");
        assert_eq!(is_of(&[]), lit(false));
    }
}
