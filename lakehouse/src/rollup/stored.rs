//! What the rollups are made of, as it is stored.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use acuvim_schemas::{
    payload::serial_of,
    reading::{READINGS, Reading},
    rollup,
    tables::Table,
    time::{DAY, Micros},
};
use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::{Decimal128Type, TimestampMicrosecondType},
};
use datafusion::{
    execution::SendableRecordBatchStream,
    functions_aggregate::expr_fn::{max, min},
    logical_expr::Expr,
    prelude::{col, lit},
};
use futures::TryStreamExt as _;
use std::ops::Range;

use super::{
    chunk::scaled,
    fold::{COUNTERS, Carry, counters},
    keys::{Keys, note, quarter_of},
    state::CounterState,
};
use crate::{
    Covered, Error, Lake, Snapshot, Track, UnionTable, View,
    lake::{device_times, timestamp},
    writer::column,
};

/// Ranges of time that one question names; more become one.
const MOST_SPANS: usize = 32;

/// Which of a device's quarters in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    First,
    Last,
}

/// The buckets that stay, by device: where counters stood at their ends.
pub(super) type Neighbours = HashMap<Arc<str>, BTreeMap<Micros, Carry>>;

/// What heartbeats said of devices' meters, by time.
pub(crate) type Serials = HashMap<Arc<str>, Vec<(Micros, Arc<str>)>>;

impl Lake {
    /// The quarters of readings beyond some offsets, up to others.
    pub(super) async fn touched(
        &self,
        telemetry: &Arc<Snapshot>,
        from: &Covered,
        to: &Covered,
    ) -> Result<Keys, Error> {
        let at = |p: u32| from.get(&p).copied().unwrap_or(0);
        let new = to.iter().filter(|(p, to)| at(**p) < **to);
        let new = new.map(|(p, to)| self.of_partition(*p, at(*p), *to)).reduce(Expr::or);
        match new {
            Some(new) => self.quarters(Table::Telemetry, telemetry, new).await,
            None => Ok(Keys::new()),
        }
    }

    /// The quarters of a UTC day that there are readings of.
    pub(super) async fn touched_on(
        &self,
        telemetry: &Arc<Snapshot>,
        day: i32,
    ) -> Result<Keys, Error> {
        let from = i64::from(day) * DAY;
        self.quarters(Table::Telemetry, telemetry, within(&(from..from + DAY))).await
    }

    /// The quarters of an hour that are stored of devices.
    pub(super) async fn quarters_of(&self, devices: &[Arc<str>]) -> Result<Keys, Error> {
        let snapshot = self.snapshot(Table::Rollup15m)?;
        let mut names: Vec<&str> = devices.iter().map(|device| &**device).collect();
        names.sort_unstable();
        self.quarters(Table::Rollup15m, &snapshot, these(&names)).await
    }

    /// The first or the last quarter of each of some devices in a long time.
    pub(super) async fn nearest(
        &self,
        devices: &[&str],
        times: &Range<Micros>,
        which: Nearest,
        into: &mut Neighbours,
    ) -> Result<(), Error> {
        if devices.is_empty() {
            return Ok(());
        }
        let table = Table::Rollup15m;
        let rows = View::of_files(self.table(table)?, &self.snapshot(table)?);
        let nearest = match which {
            Nearest::First => min(col("ts")),
            Nearest::Last => max(col("ts")),
        };
        let rows = self
            .engine()
            .session()
            .read_table(rows as _)?
            .filter(these(devices).and(within(times)))?
            .aggregate(vec![col("device_id")], vec![nearest.alias("ts")])?
            .collect()
            .await?;
        for (device, ts) in device_times(&rows)? {
            self.neighbours(&[device], &(ts..ts + 1), into).await?;
        }
        Ok(())
    }

    async fn quarters(
        &self,
        table: Table,
        snapshot: &Arc<Snapshot>,
        which: Expr,
    ) -> Result<Keys, Error> {
        let mut rows = self.read(table, snapshot, which, &["device_id", "ts"]).await?;
        let mut keys = Keys::new();
        while let Some(batch) = rows.try_next().await? {
            for (device, ts) in device_times(std::slice::from_ref(&batch))? {
                note(&mut keys, device, quarter_of(ts));
            }
        }
        Ok(keys)
    }

    /// Rows of a portion's devices in some ranges of time.
    pub(super) async fn read_spans(
        &self,
        (table, snapshot): (Table, &Arc<Snapshot>),
        devices: &[&str],
        spans: &[Range<Micros>],
        columns: &[&str],
    ) -> Result<SendableRecordBatchStream, Error> {
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
            return self.read(table, snapshot, lit(false), columns).await;
        };
        let times = match spans.len() > MOST_SPANS {
            true => within(&(first.start..last.end)),
            false => spans.iter().map(within).reduce(Expr::or).unwrap_or_else(|| lit(true)),
        };
        self.read(table, snapshot, these(devices).and(times), columns).await
    }

    async fn read(
        &self,
        table: Table,
        snapshot: &Arc<Snapshot>,
        which: Expr,
        columns: &[&str],
    ) -> Result<SendableRecordBatchStream, Error> {
        let rows = View::of_files(self.table(table)?, snapshot);
        let rows = self.engine().session().read_table(rows as _)?.filter(which)?;
        Ok(rows.select_columns(columns)?.execute_stream().await?)
    }

    /// The quarters that are stored of devices in a range of time.
    pub(super) async fn neighbours(
        &self,
        devices: &[&str],
        times: &Range<Micros>,
        into: &mut Neighbours,
    ) -> Result<(), Error> {
        let columns = carry_columns();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let table = Table::Rollup15m;
        let snapshot = self.snapshot(table)?;
        let spans = std::slice::from_ref(times);
        let mut rows = self.read_spans((table, &snapshot), devices, spans, &columns).await?;
        while let Some(batch) = rows.try_next().await? {
            take_neighbours(&batch, into)?;
        }
        Ok(())
    }

    /// The serials of devices' meters as heartbeats told them in a range of time, by time.
    pub(super) async fn serials(
        &self,
        devices: &[&str],
        times: &Range<Micros>,
    ) -> Result<Serials, Error> {
        let table = Table::Heartbeats;
        let heartbeats = View::of_files(self.table(table)?, &self.snapshot(table)?);
        self.serials_among(heartbeats, devices, times).await
    }

    /// The same of these heartbeats.
    pub(crate) async fn serials_among(
        &self,
        heartbeats: Arc<UnionTable>,
        devices: &[&str],
        times: &Range<Micros>,
    ) -> Result<Serials, Error> {
        let mut rows = self
            .engine()
            .session()
            .read_table(heartbeats as _)?
            .filter(these(devices).and(within(times)).and(col("meter_serial").is_not_null()))?
            .select_columns(&["device_id", "ts", "meter_serial"])?
            .execute_stream()
            .await?;
        let mut serials = Serials::new();
        while let Some(batch) = rows.try_next().await? {
            let told = column(&batch, "meter_serial")?.as_string::<i32>();
            let times = device_times(std::slice::from_ref(&batch))?;
            let told = times.into_iter().zip(told.iter().flatten());
            // Rows of before may have what registers pad, or hold when they can't be read.
            for ((device, ts), serial) in told.filter_map(|(at, told)| Some((at, serial_of(told)?)))
            {
                match serials.get_mut(device) {
                    Some(theirs) => theirs.push((ts, serial.into())),
                    None => {
                        serials.insert(device.into(), vec![(ts, serial.into())]);
                    }
                }
            }
        }
        serials.values_mut().for_each(|theirs| theirs.sort_by_key(|(ts, _)| *ts));
        Ok(serials)
    }

    /// Each device with the zones that its days were made by.
    pub(super) async fn stored_zones(
        &self,
        from: Micros,
    ) -> Result<Vec<(Arc<str>, String)>, Error> {
        let table = Table::RollupDaily;
        let rows = View::of_files(self.table(table)?, &self.snapshot(table)?);
        let rows = self
            .engine()
            .session()
            .read_table(rows as _)?
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
            zones.extend(pairs.map(|(device, zone)| (Arc::from(device), zone.to_owned())));
        }
        Ok(zones)
    }
}

fn take_neighbours(batch: &RecordBatch, into: &mut Neighbours) -> Result<(), Error> {
    let pairs = device_times(std::slice::from_ref(batch))?;
    for ((device, ts), carry) in pairs.into_iter().zip(carries(batch)?) {
        match into.get_mut(device) {
            Some(theirs) => {
                theirs.insert(ts, carry);
            }
            None => {
                into.insert(device.into(), BTreeMap::from([(ts, carry)]));
            }
        }
    }
    Ok(())
}

/// The columns that say where counters stood at the end of a quarter.
pub(super) fn carry_columns() -> Vec<String> {
    let names = ["device_id", "ts", "last_ts", "meter_serial", rollup::COUNTER_STATE];
    let names = names.map(str::to_owned).into_iter();
    names.chain(counters().map(|(_, r)| last_of(r))).collect()
}

fn last_of(reading: &Reading) -> String {
    format!("{}_last", reading.name)
}

/// Where counters stood at the end of each quarter of a batch.
pub(super) fn carries(batch: &RecordBatch) -> Result<Vec<Carry>, Error> {
    let last_ts = column(batch, "last_ts")?.as_primitive::<TimestampMicrosecondType>();
    let serials = column(batch, "meter_serial")?.as_string::<i32>();
    let lasts = counters()
        .map(|(_, r)| Ok(column(batch, &last_of(r))?.as_primitive::<Decimal128Type>()))
        .collect::<Result<Vec<_>, Error>>()?;
    let states = column(batch, rollup::COUNTER_STATE)?.as_string::<i32>();
    let carry = |row: usize| {
        // What can't be read says nothing; the next reading is believed as after a restart.
        let state = states.is_valid(row).then(|| serde_json::from_str(states.value(row)).ok());
        let state: CounterState = state.flatten().unwrap_or_default();
        let last_ts = last_ts.is_valid(row).then(|| last_ts.value(row));
        let mut tracks = [Track::default(); COUNTERS];
        for ((track, column), (_, reading)) in tracks.iter_mut().zip(&lasts).zip(counters()) {
            if column.is_valid(row) {
                let last = scaled(column.value(row));
                *track = state.track(reading, last, last_ts.unwrap_or_default());
            }
        }
        Carry {
            last_ts,
            serial: serials.is_valid(row).then(|| serials.value(row).into()),
            tracks,
            suspects: state.suspects,
        }
    };
    Ok((0..batch.num_rows()).map(carry).collect())
}

/// The columns that quarters are made of.
pub(super) fn reading_columns() -> Vec<&'static str> {
    ["device_id", "ts"].into_iter().chain(READINGS.iter().map(|r| r.name)).collect()
}

fn these(devices: &[&str]) -> Expr {
    match devices {
        [] => lit(false),
        [one] => col("device_id").eq(lit(*one)),
        [first, .., last] => {
            // A long list does not prune; its ends do.
            let range = col("device_id").gt_eq(lit(*first)).and(col("device_id").lt_eq(lit(*last)));
            range.and(col("device_id").in_list(devices.iter().map(|d| lit(*d)).collect(), false))
        }
    }
}

fn within(times: &Range<Micros>) -> Expr {
    col("ts").gt_eq(timestamp(times.start)).and(col("ts").lt(timestamp(times.end)))
}
