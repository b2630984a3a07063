//! The Python examples of docs/DATA.md run unchanged on a real lake.

use std::process::Command;

use serde_json::json;

use crate::harness::{Server, T0, root};

/// Loads DuckDB's extension from the tests' Python packages instead of the network.
const BEFORE: &str = r#"
import duckdb, duckdb_extension_delta, pathlib
_folder = pathlib.Path(duckdb_extension_delta.__file__).parent
_extension = next(_folder.glob("**/delta.duckdb_extension"))
_connect = duckdb.connect
def connect():
    db = _connect(config={"allow_unsigned_extensions": "true"})
    db.execute(f"LOAD '{_extension}'")
    class Db:
        def execute(self, sql):
            return db if sql.endswith("LOAD delta") else db.execute(sql)
    return Db()
duckdb.connect = connect
"#;

/// Ends the process at once, because threads of Polars sometimes crash while the interpreter exits.
const BEHIND: &str = "import os, sys; sys.stdout.flush(); os._exit(0)";

fn blocks(page: &str) -> Vec<&str> {
    let after = page.split("```python\n").skip(1);
    after.map(|rest| rest.split("```").next().expect("an end")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_for_data_teams_runs() {
    let dir = tempfile::tempdir().expect("dir");
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]).await;
    let device = server.device("d1").await;
    let counter = [99_999_998.0, 99_999_999.5, 0.5, 1.0, 0.2];
    for (n, kwh) in (0_i64..).zip(counter) {
        let ts = acuvim_wire::time::to_rfc3339((T0 + n * 600_000) * 1000);
        let reading = json!({"ts": ts, "data": {"p": 10.0 + n as f64, "ei": kwh}}).to_string();
        device.publish("acuvim/d1/telemetry", reading, false).await.expect("ack");
    }
    device.close().await;
    server.stop().await;
    let page = std::fs::read_to_string(root().join("docs/DATA.md")).expect("docs/DATA.md");
    let mut said = Vec::new();
    let runs = |block: &&&str| !block.contains("spark.read");
    for block in blocks(&page).iter().filter(runs) {
        let output = Command::new(root().join("target/python/bin/python"))
            .current_dir(dir.path())
            .args(["-c", &format!("{BEFORE}\n{block}\n{BEHIND}")])
            .output()
            .expect("python");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
        said.push(text);
    }
    let [duckdb, polars, pandas, used] = said.as_slice() else { panic!("{said:?}") };
    assert!(duckdb.contains("('d1', datetime.date(2026, 5, 1), 12.0)"), "{duckdb}");
    assert!(polars.contains("d1") && polars.contains("12.0"), "{polars}");
    assert!(pandas.contains("12.0"), "{pandas}");
    assert!(used.contains("('d1', 3.0)"), "{used}");
}
