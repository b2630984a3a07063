//! Helpers that push rows and query them.

use std::{path::Path, sync::Arc};

use acuvim_lakehouse::{
    Engine, EngineLimits, Lake, LakeOptions, Rows, TailBatch, View, WriteGuards,
};
use acuvim_tables::{
    Table,
    dead_letters::DeadLetterRows,
    telemetry::{Decoder, Source},
};
use acuvim_wire::{
    Position, Reason,
    dead_letter::DeadLetter,
    record::RecordFacts,
    telemetry::Limits,
    time::{DAY, Micros, to_rfc3339},
};
use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use bytes::Bytes;

/// 2026-05-16T12:00:00Z
pub const T0: Micros = 1_778_932_800_000_000;

pub struct Reading(String, Micros);
pub struct Dead(String);

pub fn reading(device: &str, ts: Micros) -> Reading {
    Reading(device.to_owned(), ts)
}

pub fn dead(device: &str) -> Dead {
    Dead(device.to_owned())
}

/// A lake that follows and owns every partition.
pub async fn lake(dir: &Path) -> Lake {
    lake_with(options(dir)).await
}

/// A lake with other options that follows and owns every partition.
pub async fn lake_with(options: LakeOptions) -> Lake {
    let engine = Engine::new(&EngineLimits::default()).expect("engine");
    let lake = Lake::open(options, engine).await.expect("open");
    lake.follow(&(0..4).collect()).await.expect("follow");
    (0..4).for_each(|partition| lake.own(partition, true));
    lake
}

pub fn options(dir: &Path) -> LakeOptions {
    LakeOptions {
        url: url::Url::from_directory_path(dir).expect("url"),
        partitions: 4,
        epoch: 0,
        guards: WriteGuards::default(),
        max_ahead: acuvim_wire::telemetry::MAX_AHEAD,
    }
}

/// Pushes one record for each reading and dead letter, from an offset on.
pub fn push(lake: &Lake, partition: u32, from: i64, readings: &[Reading], letters: &[Dead]) {
    let mut decoder = Decoder::new(Limits::default(), Arc::default());
    let mut dead_letters = DeadLetterRows::default();
    let mut next = from;
    let facts = |device, offset| RecordFacts {
        device_id: device,
        kind: "telemetry",
        topic: "t",
        received_at: T0 + 10 * DAY,
        epoch: 0,
        position: Position { partition, offset },
    };
    for Reading(device, ts) in readings {
        let text = to_rfc3339(*ts);
        let payload = Bytes::from(format!("{{\"ts\":\"{text}\",\"v1\":230.4}}"));
        let source = Source { facts: facts(device, next), payload: &payload, resolved_ts: None };
        decoder.push(&source, &mut |letter| panic!("{letter:?}"));
        lake.newest().note(device, *ts);
        next += 1;
    }
    for Dead(device) in letters {
        let letter = DeadLetter::whole(Reason::NotJson, None, 0, Bytes::from_static(b"?"));
        dead_letters.push(&facts(device, next), &letter);
        next += 1;
    }
    let rows = Rows {
        telemetry: decoder.finish().expect("schema").rows,
        dead_letters: dead_letters.finish().expect("schema"),
        ..Rows::none()
    };
    lake.push(partition, TailBatch { from, next, rows }).expect("schema");
}

pub async fn query_view(view: &View, sql: &str) -> Vec<RecordBatch> {
    let context = Engine::new(&EngineLimits::default()).expect("engine").session();
    for table in Table::COMMIT_ORDER {
        if let Some(provider) = view.table(table) {
            context.register_table(table.name(), provider).expect("register");
        }
    }
    context.sql(sql).await.expect("plan").collect().await.expect("run")
}

pub async fn query(lake: &Lake, sql: &str) -> Vec<RecordBatch> {
    query_view(&lake.view(true).expect("view"), sql).await
}

pub async fn count_in(view: &View, table: Table) -> usize {
    let rows = query_view(view, &format!("SELECT count(*) FROM {}", table.name())).await;
    usize::try_from(rows[0].column(0).as_primitive::<Int64Type>().value(0)).expect("a count")
}

/// The numbers of rows of telemetry and dead_letters.
pub async fn count(lake: &Lake, hot: bool) -> (usize, usize) {
    let view = lake.view(hot).expect("view");
    (count_in(&view, Table::Telemetry).await, count_in(&view, Table::DeadLetters).await)
}

pub fn pairs(rows: &[RecordBatch]) -> Vec<(String, Micros)> {
    let mut pairs = Vec::new();
    for batch in rows {
        let devices = batch.column(0).as_string::<i32>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        for (device, ts) in devices.iter().zip(times.values()) {
            pairs.push((device.expect("not null").to_owned(), *ts));
        }
    }
    pairs
}
