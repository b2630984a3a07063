//! Runs `.slt` files against a small fleet's day, half of it in the lake and half in the tail.

use std::{path::Path, sync::Arc};

use acuvim_lakehouse::{
    Engine, EngineLimits, Flushed, Lake, LakeOptions, Rows, TailBatch, View, WriteGuards,
};
use acuvim_query_sql::{GateLimits, check_query};
use acuvim_tables::{
    Table,
    dead_letters::DeadLetterRows,
    telemetry::{Decoder, Source},
};
use acuvim_wire::{
    DeadLetter, Position, record::RecordFacts, telemetry::Limits, time::parse_rfc3339,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use crate::script::{one_spaced, read};

/// The rows of a query, a line each; or why there are none.
async fn run(engine: &Engine, view: &View, sql: &str) -> Result<Vec<String>, String> {
    let statement = check_query(sql, &GateLimits::default()).map_err(|problem| problem.detail)?;
    let context = engine.session();
    for table in Table::ALL {
        let provider = view.table(table).expect("table");
        context.register_table(table.name(), provider).map_err(|e| e.to_string())?;
    }
    let plan = context.state().statement_to_plan(*statement).await.map_err(|e| e.to_string())?;
    let frame = context.execute_logical_plan(plan).await.map_err(|e| e.to_string())?;
    let batches = frame.collect().await.map_err(|e| e.to_string())?;
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                let cell = ArrayFormatter::try_new(column, &options).expect("a formatter");
                cell.value(row).to_string()
            });
            rows.push(one_spaced(&cells.collect::<Vec<_>>().join(" ")));
        }
    }
    Ok(rows)
}

/// Ten minutes of two devices, a reading a minute; the second half is not flushed.
async fn lake(dir: &Path) -> Lake {
    let engine = Engine::new(&EngineLimits::default()).expect("engine");
    let options = LakeOptions {
        url: url::Url::from_directory_path(dir).expect("url"),
        partitions: 1,
        epoch: 0,
        guards: WriteGuards::default(),
        max_ahead: acuvim_wire::telemetry::MAX_AHEAD,
    };
    let lake = Lake::open(options, engine).await.expect("lake");
    lake.follow(&[0].into()).await.expect("follow");
    lake.own(0, true);
    push(&lake, 0, 0..5);
    let flushed = lake.flush(true).await.expect("flush");
    assert!(matches!(flushed, Flushed::Done { .. }), "{flushed:?}");
    push(&lake, 11, 5..10);
    lake
}

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
                "{{\"ts\":\"2026-05-16T12:{minute:02}:00Z\",\"v1\":{volts}.{minute},\
                 \"p\":{minute}.5,\"s\":{minute}.75,\"note\":\"x\"}}"
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
        telemetry: decoder.finish().expect("schema").rows,
        dead_letters: dead.finish().expect("schema"),
        ..Rows::none()
    };
    lake.push(0, TailBatch { from, next, rows }).expect("schema");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_holds() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let engine = Engine::new(&EngineLimits::default()).expect("engine");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/slt");
    let mut queries = 0;
    for file in std::fs::read_dir(folder).expect("folder") {
        let path = file.expect("file").path();
        for record in read(&path) {
            let view = lake.view(true).expect("view");
            let answer = run(&engine, &view, &record.sql).await;
            if let Err(wrong) = record.check(answer) {
                panic!("{}:{}: {wrong}", path.display(), record.line);
            }
            queries += 1;
        }
    }
    assert!(queries >= 30, "{queries}");
}
