//! The status of devices: how soon silence is noticed, wills of replaced connections, dead letters that
//! are repaired, and what a device's status says about its clock and about rules.

use std::time::{Duration, Instant};

use acuvim_simulator::mqtt::{ConnectOptions, Connection};
use serde_json::json;

use super::{QUICK, body, only_rule, volts};
use crate::{
    fleet::until,
    harness::{Server, connect},
};

/// Waits for a status of the device; returns the seconds since a moment.
async fn seconds_until(server: &Server, status: &str, since: Instant) -> f64 {
    until(server, "/api/devices/d", |device| device["status"] == status).await;
    since.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_known_as_soon_as_the_settings_say() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let device = server.device("d").await;
    let now = chrono::Utc::now().timestamp_millis();
    let beat = json!({"ts": now, "heartbeat_interval_s": 2.0, "boot": 1}).to_string();
    device.publish("acuvim/d/heartbeat", beat, false).await.expect("ack");
    let since = Instant::now();
    // Three intervals and five, two seconds of delivery, and a second each for the pulse and the check.
    let degraded = seconds_until(&server, "degraded", since).await;
    let offline = seconds_until(&server, "offline", since).await;
    assert!((6.0..12.0).contains(&degraded), "degraded after {degraded} s");
    assert!((10.0..17.0).contains(&offline), "offline after {offline} s");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_will_of_a_connection_that_was_left_behind_is_not_believed() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let made = body(server.post("/api/devices/d/credentials", &json!({})).await, 201);
    server
        .device("d")
        .await
        .publish("acuvim/d/telemetry", volts(1_778_951_132_000, 230.0), false)
        .await
        .expect("ack");
    until(&server, "/api/devices/d", |_| true).await;
    let made = made.await;
    let password = made["password"].as_str().expect("a password").to_owned();
    // Credentials without a client id: each connection gets a random one.
    let options = ConnectOptions {
        login: Some(("d".into(), password)),
        will: Some(("acuvim/d/status".into(), r#"{"status":"offline","reason":"lwt"}"#.into())),
        ..connect(server.mqtt, "")
    };
    let open = async || {
        let begun = Instant::now();
        loop {
            match Connection::open(&options).await {
                Ok(connection) => return connection,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let old = open().await;
    let new = open().await;
    new.publish("acuvim/d/status", "online", false).await.expect("ack");
    until(&server, "/api/devices/d", |d| d["status"] == "online").await;
    // The old connection breaks: its will is recorded, and changes nothing.
    drop(old);
    server.wait_for("SELECT coalesce(sum(noted), 0) FROM ledger WHERE device_id IS NULL", 2).await;
    let device = body(server.get("/api/devices/d").await, 200).await;
    assert_eq!((&device["status"], &device["connected"]), (&json!("online"), &json!(true)));
    drop(new);
    until(&server, "/api/devices/d", |d| d["status"] == "offline").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_mended_and_tried_out_first() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let device = server.device("d").await;
    for payload in [
        &br#"{"ts":"2026-05-16T19:05:32","ei":13423.71}"#[..],
        br#"{"ts":"2026-05-16T19:05:42","ei":13423.72}"#,
        b"{\"ts\":\"2026-05-16T17:05:52Z\",\0\"ei\":13423.73}",
    ] {
        device.publish("acuvim/d/telemetry", payload, false).await.expect("ack");
    }
    server.wait_for("SELECT count(*) FROM dead_letters", 3).await;
    let path = "/api/dead-letters/replay";
    let ask = |repair: serde_json::Value, dry_run: bool| json!({"device_id": "d", "dry_run": dry_run, "repair": repair});
    for bad in [json!({"offset": "+2"}), json!({"shift_seconds": 1e12}), json!({"colour": 1})] {
        body(server.post(path, &ask(bad, true)).await, 400).await;
    }
    let tried = body(server.post(path, &ask(json!({"offset": "+0200"}), true)).await, 200).await;
    assert_eq!((&tried["matched"], &tried["usable"]), (&json!(3), &json!(2)), "{tried}");
    assert_eq!(tried["faults"][0]["reason"], "not_json", "{tried}");
    let both = json!({"offset": "+0200", "strip_nuls": true, "shift_seconds": -1});
    let tried = body(server.post(path, &ask(both.clone(), true)).await, 200).await;
    assert_eq!((&tried["usable"], &tried["replayed"]), (&json!(3), &json!(0)), "{tried}");
    let done = body(server.post(path, &ask(both, false)).await, 200).await;
    assert_eq!(done["replayed"], 3, "{done}");
    server.wait_for("SELECT count(*) FROM replays WHERE outcome = 'stored'", 3).await;
    let rows = server.sql("SELECT ts, energy_import_kwh FROM telemetry ORDER BY ts").await.rows;
    let want = json!([
        ["2026-05-16T17:05:31.000Z", 13423.71],
        ["2026-05-16T17:05:41.000Z", 13423.72],
        ["2026-05-16T17:05:51.000Z", 13423.73],
    ]);
    assert_eq!(json!(rows), want);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devices_status_tells_of_its_clock_and_of_rules_that_it_is_too_slow_for() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let rule = json!({
        "name": "Impatient", "alert_type": "over", "when": "voltage_l1_v > 250",
        "for_seconds": 60, "gap_seconds": 900
    });
    only_rule(&server, rule).await;
    let device = server.device("d").await;
    let now = chrono::Utc::now().timestamp_millis();
    for n in (1..5).rev() {
        let reading = volts(now - n * 960_000, 230.0);
        device.publish("acuvim/d/telemetry", reading, false).await.expect("ack");
    }
    device.publish("acuvim/d/telemetry", volts(now, 231.0), false).await.expect("ack");
    let state = until(&server, "/api/devices/d/status", |s| {
        s["missing_settings"] == json!(["gap_seconds of rule Impatient"])
    });
    assert_eq!(state.await["clock_ahead_seconds"], json!(null));
    device.publish("acuvim/d/telemetry", volts(now + 120_000, 260.0), false).await.expect("ack");
    let state = until(&server, "/api/devices/d/status", |s| s["clock_ahead_seconds"].is_number());
    let ahead = state.await["clock_ahead_seconds"].as_f64().expect("a number");
    assert!((100.0..=120.0).contains(&ahead), "{ahead}");
    let latest = body(server.get("/api/devices/d/telemetry").await, 200).await;
    assert_eq!(latest["data"]["voltage_l1_v"], 231.0, "{latest}");
    server.wait_for("SELECT count(*) FROM device_events WHERE event = 'clock'", 1).await;
    server.stop().await;
}
