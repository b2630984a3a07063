//! The hub with Microsoft's own client: every event, also through a restart.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::client::{Official, Told};
use crate::{
    fleet::{Answering, give, until},
    harness::{Server, reading},
};

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// An alert that the device reports itself: `raised` or `cleared`.
fn said(ts: i64, kind: &str, state: &str) -> String {
    json!({"ts": ts, "type": kind, "severity": "warning", "message": "as it says", "state": state})
        .to_string()
}

fn scan() -> Value {
    json!({"command": "wifi_scan", "params": {}, "timeout_seconds": 20})
}

/// Every event once, in the order of its device.
fn check_order(told: &[Told]) {
    let mut seen = HashSet::new();
    for one in told {
        let key = match one.event.as_str() {
            "AlertCreated" | "AlertResolved" => one.args[1]["id"].to_string(),
            "CommandCompleted" => one.args[1].to_string(),
            "DeviceRegistered" => one.args[0]["device_id"].to_string(),
            "DeviceStatusChanged" => format!("{}{}", one.args[0], one.args[1]),
            _ => continue,
        };
        assert!(seen.insert((one.event.clone(), key)), "told twice: {one:?}");
    }
    let steps: Vec<(&str, &str)> = told
        .iter()
        .filter(|one| one.event.starts_with("Alert") && one.args[0] == "d")
        .filter_map(|one| Some((one.event.as_str(), one.args[1]["alert_type"].as_str()?)))
        .filter(|(_, kind)| kind.starts_with("case_"))
        .collect();
    let expected = [
        ("AlertCreated", "case_open"),
        ("AlertResolved", "case_open"),
        ("AlertCreated", "case_away"),
        ("AlertResolved", "case_away"),
        ("AlertCreated", "case_back"),
    ];
    assert_eq!(steps, expected);
}

async fn through_a_restart(transport: &str) {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["lake.flush_interval_ms=300"]).await;
    let port = format!("http.listen={}", server.http.trim_start_matches("http://"));
    let mut client = Official::connect(&server, transport, "{}").await;

    let device = Answering::good(&server, "d").await;
    let registered = client.until(|told| told.event == "DeviceRegistered").await;
    assert_eq!(registered.args[0]["device_id"], "d");
    assert_eq!(registered.args[0]["registered"], true, "the whole device, as the API has it");
    let talk = server.device("d-reports").await;
    let ts = now_ms();
    talk.publish("acuvim/d/telemetry", reading(ts), false).await.expect("ack");
    let telemetry = client.until(|told| told.event == "TelemetryReceived").await;
    let latest = until(&server, "/api/devices/d/telemetry", |_| true).await;
    assert_eq!(telemetry.args, [json!("d"), latest], "what the API answers");
    let beat = json!({"ts": ts, "uptime_ms": 5000, "free_heap": 90_000}).to_string();
    talk.publish("acuvim/d/heartbeat", beat, false).await.expect("ack");
    let beat = client.until(|told| told.event == "HeartbeatReceived").await;
    assert_eq!((&beat.args[0], &beat.args[1]["uptime_ms"]), (&json!("d"), &json!(5000)));
    talk.publish("acuvim/d/alerts", said(ts, "case_open", "raised"), false).await.expect("ack");
    let raised = client.until(|told| told.event == "AlertCreated").await;
    assert_eq!((&raised.args[0], &raised.args[1]["severity"]), (&json!("d"), &json!("warning")));
    talk.publish("acuvim/d/alerts", said(ts + 1, "case_open", "cleared"), false)
        .await
        .expect("ack");
    client.until(|told| told.event == "AlertResolved").await;
    let request = give(&server, "d", scan()).await;
    let done = client.until(|told| told.event == "CommandCompleted").await;
    assert_eq!((&done.args[0], &done.args[1]), (&json!("d"), &json!(request)));
    assert_eq!(done.args[2]["status"], "success");
    // Without a close message from the hub the client would wait for a missed ping.
    device.vanish();
    server.stop().await;
    client.until(|told| told.event == "reconnecting").await;

    let mut set = vec!["lake.flush_interval_ms=300"];
    set.push(&port);
    let server = Server::start(dir.path(), &set).await;
    let device = Answering::good(&server, "d").await;
    let talk = server.device("d-reports").await;
    let ts = now_ms();
    for (at, kind, state) in [(0, "case_away", "raised"), (1, "case_away", "cleared")] {
        talk.publish("acuvim/d/alerts", said(ts + at, kind, state), false).await.expect("ack");
    }
    let again = give(&server, "d", scan()).await;
    client.until(|told| told.event == "reconnected").await;
    talk.publish("acuvim/d/alerts", said(ts + 2, "case_back", "raised"), false).await.expect("ack");
    let back =
        |told: &Told| told.event == "AlertCreated" && told.args[1]["alert_type"] == "case_back";
    if !client.told.iter().any(back) {
        client.until(back).await;
    }
    let is_done = |told: &Told| told.event == "CommandCompleted" && told.args[1] == json!(again);
    if !client.told.iter().any(is_done) {
        client.until(is_done).await;
    }
    check_order(&client.told);
    let statuses: Vec<&Value> =
        client.of("DeviceStatusChanged").iter().map(|t| &t.args[1]["status"]).collect();
    assert!(statuses.contains(&&json!("online")), "{statuses:?}");
    assert!(client.of("EventsDropped").is_empty(), "nothing is said to be missing");
    device.vanish();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_misses_nothing_through_a_restart_on_websockets() {
    through_a_restart("WebSockets").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_misses_nothing_through_a_restart_on_server_sent_events() {
    through_a_restart("ServerSentEvents").await;
}
