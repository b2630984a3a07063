//! The main path, once, with Mosquitto, Kafka, PostgreSQL and S3.

use std::process::Command;

use acuvim_simulator::mqtt::Connection;
use serde_json::{Value, json};

use crate::{
    harness::{T0, connect, reading, root},
    stack::Stack,
};

const SCRIPT: &str = r#"
import json, os, sys, deltalake, polars
table = deltalake.DeltaTable(sys.argv[1] + "/telemetry", version=int(sys.argv[2]))
rows = table.to_pyarrow_table()
others = polars.scan_delta(table).select(polars.len()).collect().item()
print(json.dumps({"rows": rows.num_rows, "polars": others, "version": table.version()}), flush=True)
# Its threads do not always survive the interpreter's end.
os._exit(0)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_goes_from_mosquitto_over_kafka_to_s3_and_others_read_it_there() {
    let stack = Stack::shared().await;
    let extra = [
        "lake.flush_interval_ms=300",
        "lake.compaction_interval_ms=300",
        "firmware.rollout_interval_seconds=1",
    ];
    let ingest = stack.serve("ingest", "ingest", &extra).await;
    let processor = stack.serve("processor", "processor", &extra).await;
    let query = stack.serve("query", "query", &extra).await;
    let device = Connection::open(&connect(stack.mqtt, "d1")).await.expect("Mosquitto");
    let registration = json!({"device_id": "d1", "firmware_version": "1.2.0"});
    device.publish("devices/register", registration.to_string(), false).await.expect("ack");
    for n in 0..200 {
        // Two days, so that there are several partitions.
        let ts = T0 + n * 1000 + (n % 2) * 86_400_000;
        device.publish("acuvim/d1/telemetry", reading(ts), false).await.expect("ack");
    }
    device.publish("acuvim/d1/telemetry", reading(T0), false).await.expect("a duplicate");
    device.publish("acuvim/d1/telemetry", "broken", false).await.expect("ack");
    device.publish("acuvim/not a device/telemetry", "{}", false).await.expect("ack");
    query.wait_for("SELECT count(*) FROM telemetry", 200).await;
    query.wait_for("SELECT count(*) FROM dead_letters", 2).await;
    query.wait_for("SELECT count(*) FROM devices WHERE firmware_version = '1.2.0'", 1).await;
    let latest: Value = query.get("/api/devices/d1/telemetry").await.json().await.expect("json");
    assert_eq!(latest["ts"], "2026-05-02T00:03:19.000Z");
    for server in [&ingest, &processor, &query] {
        let ready = server.client.get(format!("{}/readyz", server.http)).send().await;
        assert_eq!(ready.expect("an answer").status(), 200);
    }
    let none = processor.client.get(format!("{}/api/devices", processor.http)).send().await;
    assert_eq!(none.expect("an answer").status(), 503, "only the query role serves the API");

    // Firmware goes the same way: its image is on S3, the command over Kafka and Mosquitto.
    crate::firmware::updated(&query, stack.mqtt, "1.4.0").await;

    device.close().await;
    ingest.stop().await;
    processor.stop().await;
    let lake = json!({"query": "SELECT count(*) FROM telemetry", "consistency": "lake"});
    let ours = loop {
        let ours = query.ask(lake.clone()).await;
        if ours.rows[0][0] == 200 {
            break ours;
        }
    };
    let output = Command::new(root().join("target/python/bin/python"))
        .args(["-c", SCRIPT, &stack.lake(), &ours.lake_version.to_string()])
        .envs(stack.environment())
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(theirs, json!({"rows": 200, "polars": 200, "version": ours.lake_version}));
    query.stop().await;
}
