//! What other readers count while a table is flushed, sorted, loses days, and gets columns of a later
//! version.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, T0, reading, root};

const SCRIPT: &str = r#"
import json, os, pathlib, sys, duckdb, deltalake, duckdb_extension_delta, polars
path = sys.argv[1]
db = duckdb.connect(config={"allow_unsigned_extensions": "true"})
folder = pathlib.Path(duckdb_extension_delta.__file__).parent
db.execute("LOAD '%s'" % next(folder.glob("**/delta.duckdb_extension")))
count = "SELECT count(*), sum(voltage_l1_v)::VARCHAR FROM delta_scan(?)"
duck = db.execute(count, [path]).fetchone()
pl = polars.scan_delta(path).select(polars.len(), polars.col("voltage_l1_v").sum()).collect().row(0)
lake = deltalake.DeltaTable(path)
files = lake.to_pyarrow_table(columns=["voltage_l1_v"])
print(json.dumps({"duckdb": duck, "polars": [pl[0], str(pl[1])], "deltalake": files.num_rows}), flush=True)
# Their threads do not always survive the interpreter's end.
os._exit(0)
"#;

async fn all_count(server: &Server, path: &std::path::Path) -> Value {
    // The tail is flushed first, so that all read the same version.
    let ours = json!({
        "query": "SELECT count(*), CAST(sum(voltage_l1_v) AS VARCHAR) FROM telemetry",
        "consistency": "lake"
    });
    let row = server.ask(ours).await.rows.remove(0);
    let output = Command::new(root().join("target/python/bin/python"))
        .args(["-c", SCRIPT])
        .arg(path)
        .output()
        .expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(theirs["duckdb"], json!(row));
    assert_eq!(theirs["polars"], json!(row));
    assert_eq!(theirs["deltalake"], row[0]);
    row[0].clone()
}

/// The number of the table's files by `/metrics`.
async fn files(server: &Server) -> i64 {
    let text = server.get("/metrics").await.text().await.expect("metrics");
    let line = text.lines().find(|l| l.starts_with("acuvim_lake_files{table=\"telemetry\"}"));
    line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).map_or(0, |n| n as i64)
}

async fn until_files(server: &Server, want: i64) {
    let begun = std::time::Instant::now();
    while files(server).await != want {
        assert!(begun.elapsed() < PATIENCE, "{} files", files(server).await);
        crate::harness::pause(begun).await;
    }
}

async fn publish(server: &Server, readings: std::ops::Range<i64>) {
    for d in 0..4 {
        let id = format!("d{d}");
        let device = server.device(&id).await;
        for n in readings.clone().filter(|n| n % 4 == d) {
            let ts = T0 + n * 1000 + (n % 3) * 86_400_000;
            let topic = format!("acuvim/{id}/telemetry");
            device.publish(&topic, reading(ts), false).await.expect("ack");
            // A pause, so that there are several flushes.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        device.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_count_the_same_through_a_tables_life() {
    let dir = tempfile::tempdir().expect("dir");
    let telemetry = dir.path().join("lake/telemetry");
    let quiet = ["lake.compaction_interval_ms=3600000", "lake.flush_interval_ms=100"];
    let server = Server::start(dir.path(), &quiet).await;
    publish(&server, 0..60).await;
    server.stop().await;
    let server = Server::start(dir.path(), &quiet).await;
    assert!(files(&server).await > 3);
    assert_eq!(all_count(&server, &telemetry).await, 60);
    server.stop().await;

    // Sorted: three days that are over have one file each.
    let ordered =
        ["lake.compaction_interval_ms=100", "lake.settle_minutes=0", "lake.flush_interval_ms=100"];
    let server = Server::start(dir.path(), &ordered).await;
    until_files(&server, 3).await;
    assert_eq!(all_count(&server, &telemetry).await, 60);
    server.stop().await;

    // A later version adds a column; this one continues to write.
    let grow = "import sys, deltalake as d; t = d.DeltaTable(sys.argv[1]); \
                t.alter.add_columns([d.Field('flicker_pct', d.schema.PrimitiveType('double'))])";
    let python = root().join("target/python/bin/python");
    let grown = Command::new(python).args(["-c", grow]).arg(&telemetry).output().expect("python");
    assert!(grown.status.success(), "{}", String::from_utf8_lossy(&grown.stderr));
    let server = Server::start(dir.path(), &quiet).await;
    publish(&server, 60..90).await;
    server.stop().await;
    let server = Server::start(dir.path(), &quiet).await;
    assert_eq!(all_count(&server, &telemetry).await, 90);
    server.stop().await;

    // The first day is too old. Retention takes the day a week after the newest row as today at most,
    // whatever the clock says.
    let keep = "telemetry.retention_days=8";
    let retain = [quiet[0], quiet[1], keep, "telemetry.first_cleanup_seconds=1"];
    let compacting = [&retain[1..], &["lake.compaction_interval_ms=100"]].concat();
    let server = Server::start(dir.path(), &compacting).await;
    let begun = std::time::Instant::now();
    let days =
        json!({"query": "SELECT count(DISTINCT date) FROM telemetry", "consistency": "lake"});
    while server.ask(days.clone()).await.rows[0][0] != 2 {
        assert!(begun.elapsed() < PATIENCE, "no day is dropped");
        crate::harness::pause(begun).await;
    }
    server.stop().await;
    let server = Server::start(dir.path(), &quiet).await;
    assert_eq!(all_count(&server, &telemetry).await, 60);
    server.stop().await;
}
