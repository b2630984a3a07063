//! Builders of lakes and rows for unit tests.

use std::{path::Path, sync::Arc};

use acuvim_tables::{
    Table,
    dead_letters::DeadLetterRows,
    heartbeat::HeartbeatRows,
    telemetry::{Decoder, Source},
};
use acuvim_wire::{
    Position, Reason,
    dead_letter::DeadLetter,
    record::RecordFacts,
    telemetry::{Limits, MAX_AHEAD},
    time::{Micros, to_rfc3339},
};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
    util::pretty::pretty_format_batches,
};
use bytes::Bytes;

use crate::{
    Engine, EngineLimits, Lake, LakeOptions, Rows, TailBatch, View, WriteGuards,
    delta::table::{LakeTable, SourceLog},
};

/// 2026-05-16T12:00:00Z
pub(crate) const T0: Micros = 1_778_932_800_000_000;

/// The number of partitions of a lake.
pub(crate) const PARTITIONS: u32 = 4;

/// A reading that arrived at its time, unless said otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub device: &'a str,
    pub ts: Micros,
    pub received_at: Micros,
    pub volts: f64,
    /// Imported energy in kWh.
    pub energy: Option<f64>,
    /// Imported less exported energy in kWh.
    pub net: Option<f64>,
}

pub(crate) const fn reading(device: &str, ts: Micros) -> Reading<'_> {
    Reading { device, ts, received_at: ts, volts: 230.4, energy: None, net: None }
}

pub(crate) fn options(dir: &Path) -> LakeOptions {
    LakeOptions {
        url: url::Url::from_directory_path(dir).expect("url"),
        partitions: PARTITIONS,
        epoch: 0,
        guards: WriteGuards::default(),
        max_ahead: MAX_AHEAD,
    }
}

pub(crate) fn engine() -> Engine {
    Engine::new(&EngineLimits::default()).expect("engine")
}

/// A lake that follows and owns every partition.
pub(crate) async fn lake(dir: &Path) -> Lake {
    lake_with(options(dir)).await
}

pub(crate) async fn lake_with(options: LakeOptions) -> Lake {
    let lake = Lake::open(options, engine()).await.expect("open");
    lake.follow(&(0..PARTITIONS).collect()).await.expect("follow");
    (0..PARTITIONS).for_each(|partition| lake.own(partition, true));
    lake
}

/// A table of its own, without the others of a lake.
pub(crate) async fn table(dir: &Path, kind: Table) -> LakeTable {
    let url = url::Url::from_directory_path(dir.join(kind.name())).expect("url");
    std::fs::create_dir_all(dir.join(kind.name())).expect("folder");
    let log = SourceLog { epoch: 0, partitions: PARTITIONS };
    LakeTable::open(url, kind, log).await.expect("open")
}

fn facts(device_id: &str, received_at: Micros, partition: u32, offset: i64) -> RecordFacts<'_> {
    let position = Position { partition, offset };
    RecordFacts { device_id, kind: "telemetry", topic: "t", received_at, epoch: 0, position }
}

/// Rows of `telemetry`, one for each record of a partition from an offset on.
pub(crate) fn telemetry(partition: u32, from: i64, readings: &[Reading<'_>]) -> RecordBatch {
    let mut decoder = Decoder::new(Limits::default(), Arc::default());
    for (offset, reading) in (from..).zip(readings) {
        let mut payload =
            format!(r#"{{"ts":"{}","v1":{:.2}"#, to_rfc3339(reading.ts), reading.volts);
        for (key, value) in [("ei", reading.energy), ("en", reading.net)] {
            payload += &value.map(|value| format!(r#","{key}":{value:.2}"#)).unwrap_or_default();
        }
        let payload = Bytes::from(payload + "}");
        let facts = facts(reading.device, reading.received_at, partition, offset);
        let source = Source { facts, payload: &payload, resolved_ts: None };
        decoder.push(&source, &mut |letter| panic!("{letter:?}"));
    }
    decoder.finish().expect("rows").rows
}

/// A dead letter: device, time of arrival and payload. Device and payload may be empty.
pub(crate) type Dead<'a> = (&'a str, Micros, &'a str);

/// Rows of `dead_letters`, one for each record of a partition from an offset on.
pub(crate) fn dead_letters(partition: u32, from: i64, letters: &[Dead<'_>]) -> RecordBatch {
    let mut rows = DeadLetterRows::default();
    for (offset, (device, received_at, payload)) in (from..).zip(letters) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let letter = DeadLetter::whole(Reason::NotJson, None, 0, payload);
        rows.push(&facts(device, *received_at, partition, offset), &letter);
    }
    rows.finish().expect("rows")
}

/// Rows of `heartbeats` as (device, time, serial number of the meter).
pub(crate) fn heartbeats(from: i64, all: &[(&str, Micros, &str)]) -> RecordBatch {
    let mut rows = HeartbeatRows::default();
    for (offset, (device, ts, serial)) in (from..).zip(all) {
        let text = format!(r#"{{"meter_serial":"{serial}"}}"#);
        let heartbeat = serde_json::from_str(&text).expect("a heartbeat");
        rows.push(&facts(device, *ts, 0, offset), *ts, &heartbeat);
    }
    rows.finish().expect("rows")
}

/// The next offset of a partition that a lake follows.
pub(crate) fn next_of(lake: &Lake, partition: u32) -> i64 {
    let at = usize::try_from(partition).expect("small");
    lake.tail().next_offsets()[at].expect("the partition is followed")
}

/// Adds rows as the next records of a partition.
pub(crate) fn push_rows(lake: &Lake, partition: u32, rows: Rows) {
    let from = next_of(lake, partition);
    let records = rows.of(Table::Telemetry).map_or(0, RecordBatch::num_rows)
        + rows.dead_letters.num_rows()
        + rows.heartbeats.num_rows();
    let next = from + i64::try_from(records.max(1)).expect("small");
    lake.push(partition, TailBatch { from, next, rows }).expect("push");
}

/// Adds readings to the partitions of their devices, without a flush.
pub(crate) fn push(lake: &Lake, readings: &[Reading<'_>]) {
    for partition in 0..PARTITIONS {
        let theirs = |r: &&Reading<'_>| lake.newest().partition(r.device) == partition;
        let theirs: Vec<Reading<'_>> = readings.iter().filter(theirs).copied().collect();
        if !theirs.is_empty() {
            let telemetry = telemetry(partition, next_of(lake, partition), &theirs);
            theirs.iter().for_each(|reading| lake.newest().note(reading.device, reading.ts));
            push_rows(lake, partition, Rows { telemetry, ..Rows::none() });
        }
    }
}

/// Adds readings and commits them.
pub(crate) async fn store(lake: &Lake, readings: &[Reading<'_>]) {
    push(lake, readings);
    lake.flush(true).await.expect("flush");
}

/// The rows of a query over a view.
pub(crate) async fn rows_of(view: &View, sql: &str) -> Vec<RecordBatch> {
    let session = engine().session();
    for table in Table::ALL {
        if let Some(provider) = view.table(table) {
            session.register_table(table.name(), provider).expect("register");
        }
    }
    session.sql(sql).await.expect("plan").collect().await.expect("run")
}

/// The result of a query over tables and tail, as the cells of its rows.
pub(crate) async fn ask(lake: &Lake, sql: &str) -> Vec<Vec<String>> {
    cells(&rows_of(&lake.view(true).expect("view"), sql).await)
}

/// The printed cells of rows.
pub(crate) fn cells(rows: &[RecordBatch]) -> Vec<Vec<String>> {
    if rows.iter().all(|batch| batch.num_rows() == 0) {
        return Vec::new();
    }
    let table = pretty_format_batches(rows).expect("text").to_string();
    let lines = table.lines().skip(3).filter(|line| line.starts_with('|'));
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.map(cells).collect()
}

/// The first two columns of rows, a device and a time.
pub(crate) fn pairs(rows: &[RecordBatch]) -> Vec<(String, Micros)> {
    let mut pairs = Vec::new();
    for batch in rows {
        let devices = batch.column(0).as_string::<i32>().iter();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
        let named =
            |(device, ts): (Option<&str>, &Micros)| (device.unwrap_or_default().to_owned(), *ts);
        pairs.extend(devices.zip(times).map(named));
    }
    pairs
}
