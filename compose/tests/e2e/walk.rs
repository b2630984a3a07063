//! The main path, once, from a reading over MQTT to its answers.

use acuvim_simulator::mqtt::Connection;
use serde_json::{Value, json};

use crate::harness::{Server, T0, connect, reading};

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_goes_from_mqtt_to_sql_rest_and_csv_and_survives_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let device = server.device("ACV-AABBCCDDEEFF").await;
    let registration = json!({"device_id": "ACV-AABBCCDDEEFF", "firmware_version": "1.2.0"});
    device.publish("devices/register", registration.to_string(), false).await.expect("ack");
    let topic = "acuvim/ACV-AABBCCDDEEFF/telemetry";
    for second in [5, 3, 4, 3] {
        device.publish(topic, reading(T0 + second * 1000), false).await.expect("ack");
    }
    device.publish(topic, "broken", false).await.expect("bad ones are acknowledged too");
    server.wait_for("SELECT count(*) FROM telemetry", 3).await;
    server.wait_for("SELECT count(*) FROM dead_letters WHERE reason = 'not_json'", 1).await;
    server.wait_for("SELECT count(*) FROM devices WHERE firmware_version = '1.2.0'", 1).await;

    let latest: Value =
        server.get("/api/devices/ACV-AABBCCDDEEFF/telemetry").await.json().await.expect("json");
    assert_eq!(latest["ts"], "2026-05-01T00:00:05.000Z", "the highest ts, not the last to arrive");
    assert_eq!(latest["data"], json!({"voltage_l1_v": 230.4, "frequency_hz": 50.01}));

    let csv =
        json!({"query": "SELECT ts, voltage_l1_v FROM telemetry ORDER BY ts", "format": "csv"});
    let answer = server.post("/api/sql", &csv).await;
    assert_eq!(answer.headers()["x-row-count"], "3");
    assert_eq!(
        answer.text().await.expect("csv"),
        "ts,voltage_l1_v\n2026-05-01T00:00:03.000Z,230.4\n2026-05-01T00:00:04.000Z,230.4\n\
         2026-05-01T00:00:05.000Z,230.4\n"
    );
    device.close().await;
    server.stop().await;

    let server = Server::start(dir.path(), &[]).await;
    server.wait_for("SELECT count(*) FROM telemetry", 3).await;
    let lake = json!({"query": "SELECT count(*) FROM telemetry", "consistency": "lake"});
    let flushed = server.ask(lake).await;
    assert_eq!(flushed.rows[0][0], 3, "the ordered end flushed the tail");
    assert!(flushed.lake_version >= 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_end_leaves_nothing_for_the_next_start() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let device = server.device("d1").await;
    for round in 0..20 {
        let mut waiting = Vec::new();
        for n in 0..50 {
            let payload = reading(T0 + (round * 50 + n) * 1000);
            waiting.push(device.send("acuvim/d1/telemetry", payload, false).await.expect("send"));
        }
        for acknowledgement in waiting {
            acknowledgement.await.expect("acknowledged");
        }
    }
    device.close().await;
    server.stop().await;
    let server = Server::start(dir.path(), &[]).await;
    let query = "SELECT count(*) FROM telemetry";
    let flushed = server.ask(json!({"query": query, "consistency": "lake"})).await;
    assert_eq!(flushed.rows[0][0], 1000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_lines_aliases_of_time_and_a_last_will() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["lake.flush_interval_ms=200"]).await;
    let mut options = connect(server.mqtt, "d1");
    options.will = Some(("acuvim/d1/status".into(), "sideways".into()));
    let device = Connection::open(&options).await.expect("connection");
    let batch = format!("{{\"batch\":[{},{}]}}", reading(T0), reading(T0 + 1000));
    let lines = format!("{}\n{}\nbad\n", reading(T0 + 2000), reading(T0 + 3000));
    device.publish("acuvim/d1/telemetry", batch, false).await.expect("ack");
    device.publish("acuvim/d1/telemetry", lines, false).await.expect("ack");
    device.forget("acuvim/d1/telemetry", reading(T0 + 4000)).await.expect("QoS 0");
    server.wait_for("SELECT count(*) FROM telemetry WHERE device_id = 'd1'", 5).await;
    server.wait_for("SELECT count(*) FROM dead_letters WHERE item = 2", 1).await;
    // The connection breaks, so its will is published; this one has no valid status.
    drop(device);
    server.wait_for("SELECT count(*) FROM dead_letters WHERE kind = 'status'", 1).await;
    server.stop().await;
}
