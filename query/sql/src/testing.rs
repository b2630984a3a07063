//! A small fleet for tests: two devices with ten minutes of readings, half of them in the lake and half in
//! the tail, and a control database that knows both devices.

use std::{io, sync::Arc};

use acuvim_control::{By, Control, Created};
use acuvim_lakehouse::{
    Engine, EngineLimits, Flushed, Lake, LakeOptions, Rows, TailBatch, WriteGuards,
};
use acuvim_model::{NewDevice, Scope};
use acuvim_tables::{
    dead_letters::DeadLetterRows,
    telemetry::{Decoder, Source},
};
use acuvim_wire::{
    DeadLetter, Micros, Position, record::RecordFacts, telemetry::Limits, time::parse_rfc3339,
};
use bytes::Bytes;
use chrono::DateTime;
use futures::TryStreamExt as _;
use serde_json::json;

use crate::{
    answer::AnswerBody,
    engine::{Sql, SqlParts, TailCheck},
    limits::SqlLimits,
};

/// A fleet, for as long as a test holds it.
pub(crate) struct Fleet {
    pub sql: Sql,
    pub control: Control,
    dir: tempfile::TempDir,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        Self::with(SqlLimits::default(), || None).await
    }

    /// A fleet whose tail can't be read for a reason, if there is one.
    pub(crate) async fn with(
        limits: SqlLimits,
        tail: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
        for id in ["a", "b"] {
            let new: NewDevice = serde_json::from_value(json!({ "device_id": id })).expect("new");
            let by = By::system(DateTime::UNIX_EPOCH);
            let created = control.create_device(&new, &by).await.expect("control answers");
            assert!(matches!(created, Created::Done(_)), "{created:?}");
        }
        let engine = Engine::new(&EngineLimits::default()).expect("an engine");
        let lake = Arc::new(lake(&dir.path().join("lake"), engine.clone()).await);
        let tail = TailCheck(Arc::new(tail));
        let parts = SqlParts { control: control.clone(), lake, engine, limits, tail };
        Self { sql: Sql::new(parts).expect("threads"), control, dir }
    }

    /// Damages every file of rows in the lake.
    pub(crate) fn tear_files(&self) {
        let mut folders = vec![self.dir.path().join("lake")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|name| name == "parquet") {
                    std::fs::write(path, b"PAR1 torn").expect("written");
                }
            }
        }
    }
}

async fn lake(folder: &std::path::Path, engine: Engine) -> Lake {
    std::fs::create_dir_all(folder).expect("a folder");
    let options = LakeOptions {
        url: url::Url::from_directory_path(folder).expect("a URL"),
        partitions: 1,
        epoch: 0,
        guards: WriteGuards::default(),
        max_ahead: acuvim_wire::telemetry::MAX_AHEAD,
    };
    let lake = Lake::open(options, engine).await.expect("a lake");
    lake.follow(&[0].into()).await.expect("followed");
    lake.own(0, true);
    push(&lake, 0, 0..5);
    let flushed = lake.flush(true).await.expect("flushed");
    assert!(matches!(flushed, Flushed::Done { .. }), "{flushed:?}");
    push(&lake, 11, 5..10);
    lake
}

/// A reading of each device a minute, and one dead letter of `a`.
fn push(lake: &Lake, from: i64, minutes: std::ops::Range<i64>) {
    let received_at = parse_rfc3339("2026-05-16T13:00:00Z").expect("a time");
    let mut decoder = Decoder::new(Limits::default(), Arc::default());
    let mut dead = DeadLetterRows::default();
    let mut next = from;
    let facts = |device_id, offset| RecordFacts {
        device_id,
        kind: "telemetry",
        topic: "acuvim/d/telemetry",
        received_at,
        epoch: 0,
        position: Position { partition: 0, offset },
    };
    for minute in minutes {
        for (device, volts) in [("a", 230), ("b", 110)] {
            let payload = Bytes::from(format!(
                "{{\"ts\":\"2026-05-16T12:{minute:02}:00Z\",\"v1\":{volts}.{minute}}}"
            ));
            let source =
                Source { facts: facts(device, next), payload: &payload, resolved_ts: None };
            decoder.push(&source, &mut |letter| panic!("{letter:?}"));
            next += 1;
        }
    }
    let reason = acuvim_wire::Reason::NotJson;
    let letter = DeadLetter::whole(reason, None, 0, Bytes::from_static(b"broken"));
    dead.push(&facts("a", next), &letter);
    next += 1;
    let rows = Rows {
        telemetry: decoder.finish().expect("rows").rows,
        dead_letters: dead.finish().expect("rows"),
        ..Rows::none()
    };
    lake.push(0, TailBatch { from, next, rows }).expect("pushed");
}

/// The minute of the fleet's readings.
pub(crate) fn minute(minute: i64) -> Micros {
    let begin = parse_rfc3339("2026-05-16T12:00:00Z").expect("a time");
    begin + minute * acuvim_wire::time::MINUTE
}

/// A scope of these devices alone.
pub(crate) fn scope(ids: &[&str]) -> Scope {
    Scope { device_ids: ids.iter().map(|id| (*id).to_owned()).collect(), group_ids: vec![] }
}

/// The bytes of an answer; an error if it broke off.
pub(crate) async fn bytes_of(body: AnswerBody) -> io::Result<Vec<u8>> {
    match body {
        AnswerBody::Whole(bytes) => Ok(bytes.to_vec()),
        AnswerBody::Chunks(chunks) => {
            let chunks: Vec<Bytes> = chunks.try_collect().await?;
            Ok(chunks.concat())
        }
    }
}
