//! Other readers: DuckDB, Polars and Python's deltalake count the same rows at the same version, before
//! and after compaction, retention and schema evolution; and the examples of `docs/DATA.md` run.

mod document;
mod examples;
mod life;

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Server, T0, reading, root};

const SCRIPT: &str = r#"
import json, pathlib, sys, duckdb, deltalake, duckdb_extension_delta
path, version = sys.argv[1], int(sys.argv[2])
table = deltalake.DeltaTable(path, version=version)
rows = table.to_pyarrow_table()
db = duckdb.connect(config={"allow_unsigned_extensions": "true"})
folder = pathlib.Path(duckdb_extension_delta.__file__).parent
extension = next(folder.glob("**/delta.duckdb_extension"))
db.execute(f"LOAD '{extension}'")
query = "SELECT count(*), count(DISTINCT (device_id, ts)), sum(voltage_l1_v)::VARCHAR FROM delta_scan(?)"
duck = db.execute(query, [path]).fetchone()
print(json.dumps({
    "deltalake": rows.num_rows, "version": table.version(), "duckdb": duck[0],
    "distinct": duck[1], "volts": duck[2], "type": str(rows.schema.field("voltage_l1_v").type),
}))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn duckdb_and_deltalake_count_the_same_rows_at_the_same_version() {
    let python = root().join("target/python/bin/python");
    assert!(python.exists(), "{} is missing: run ./dev setup", python.display());
    let dir = tempfile::tempdir().expect("dir");
    let settings = [
        "lake.flush_interval_ms=100",
        "lake.compaction_interval_ms=100",
        "lake.compaction_fan_in=3",
    ];
    let server = Server::start(dir.path(), &settings).await;
    let device = server.device("d1").await;
    for n in 0..300 {
        // Two days, so that there are several partitions.
        let ts = T0 + n * 1000 + (n % 2) * 86_400_000;
        device.publish("acuvim/d1/telemetry", reading(ts), false).await.expect("ack");
    }
    device.close().await;
    server.stop().await;
    // Nothing is flushed any more, so the newest version does not change.
    let server = Server::start(dir.path(), &["lake.compaction_interval_ms=3600000"]).await;
    let ours = server
        .ask(json!({
            "query": "SELECT count(*), CAST(sum(voltage_l1_v) AS VARCHAR) FROM telemetry",
            "consistency": "lake"
        }))
        .await;
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(dir.path().join("lake/telemetry"))
        .arg(ours.lake_version.to_string())
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(ours.rows[0][0], 300);
    assert_eq!(theirs["deltalake"], 300);
    assert_eq!(theirs["duckdb"], 300);
    assert_eq!(theirs["distinct"], 300);
    assert_eq!(theirs["version"], ours.lake_version);
    assert_eq!(theirs["volts"], ours.rows[0][1]);
    assert_eq!(theirs["type"], "decimal128(9, 2)");
    server.stop().await;
}
