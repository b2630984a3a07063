//! Runs `.slt` files against a small fleet's day, half of it in the lake and half in the tail.

use std::{path::Path, sync::Arc};

use acuvim_lakehouse::{Engine, EngineLimits, Flushed, Lake, LakeOptions, Rows, TailBatch, View};
use acuvim_query::{GateLimits, check_query};
use acuvim_schemas::{
    DeadLetter, Position,
    tables::Table,
    telemetry::{DeadLetterRows, Decoder, Limits, RecordFacts, Source},
    time::parse_rfc3339,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use bytes::Bytes;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

struct Db {
    engine: Engine,
    view: View,
}

#[async_trait]
impl AsyncDB for Db {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let refused = |e: &dyn std::fmt::Display| Refused(e.to_string());
        let statement = check_query(sql, &GateLimits::default()).map_err(|p| Refused(p.detail))?;
        let context = self.engine.session();
        for table in Table::ALL {
            let provider = self.view.table(table).expect("table");
            context.register_table(table.name(), provider).map_err(|e| refused(&e))?;
        }
        let plan = context.state().statement_to_plan(*statement).await.map_err(|e| refused(&e))?;
        let frame = context.execute_logical_plan(plan).await.map_err(|e| refused(&e))?;
        let batches = frame.collect().await.map_err(|e| refused(&e))?;
        let columns = batches.first().map_or(0, |b| b.num_columns());
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|column| {
                    let cell = ArrayFormatter::try_new(column, &options).expect("a formatter");
                    cell.value(row).to_string()
                });
                rows.push(cells.collect());
            }
        }
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows })
    }

    async fn shutdown(&mut self) {}
}

/// Ten minutes of two devices, a reading a minute; the second half is not flushed.
async fn lake(dir: &Path) -> Lake {
    let engine = Engine::new(&EngineLimits::default()).expect("engine");
    let options = LakeOptions {
        url: url::Url::from_directory_path(dir).expect("url"),
        storage: std::collections::HashMap::new(),
        partitions: 1,
        epoch: 0,
        skip_by_offset: true,
        fence: true,
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
    let reason = acuvim_schemas::Reason::NotJson;
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
    let lake = Arc::new(lake(dir.path()).await);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/query/slt");
    let mut files = 0;
    for file in std::fs::read_dir(folder).expect("folder") {
        let lake = Arc::clone(&lake);
        let mut runner = sqllogictest::Runner::new(move || {
            let view = lake.view(true).expect("view");
            async {
                let engine = Engine::new(&EngineLimits::default()).expect("engine");
                Ok(Db { engine, view })
            }
        });
        let path = file.expect("file").path();
        if let Err(error) = runner.run_file_async(&path).await {
            panic!("{}: {error}", path.display());
        }
        files += 1;
    }
    assert!(files >= 2);
}
