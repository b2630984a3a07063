//! Replays of dead letters, and how complete a device's readings are.

use serde_json::{Value, json};

use super::{QUICK, body};
use crate::{fleet::until, harness::Server};

#[tokio::test(flavor = "multi_thread")]
async fn what_decodes_now_is_stored_once_and_marked() {
    let dir = tempfile::tempdir().expect("dir");
    let strict = [&QUICK[..], &["telemetry.max_future_hours=0"]].concat();
    let server = Server::start(dir.path(), &strict).await;
    let device = server.device("d").await;
    let ahead = (chrono::Utc::now().timestamp() + 1800) * 1000;
    for n in 0..3 {
        let reading = json!({"ts": ahead + n * 1000, "f": 50}).to_string();
        device.publish("acuvim/d/telemetry", reading, false).await.expect("ack");
    }
    device.publish("acuvim/d/telemetry", "broken", false).await.expect("ack");
    server.wait_for("SELECT count(*) FROM dead_letters", 4).await;
    server.stop().await;
    let server = Server::start(dir.path(), &QUICK).await;
    let path = "/api/dead-letters/replay";
    body(server.post(path, &json!({})).await, 400).await;
    body(server.post(path, &json!({"reason": "nonsense"})).await, 400).await;
    let dry = json!({"reason": "ts_in_future", "dry_run": true});
    let dry = body(server.post(path, &dry).await, 200).await;
    assert_eq!((&dry["matched"], &dry["replayed"]), (&json!(3), &json!(0)));
    let all = json!({"device_id": "d"});
    let done = body(server.post(path, &all).await, 200).await;
    assert_eq!((&done["matched"], &done["replayed"]), (&json!(4), &json!(4)), "{done}");
    server.wait_for("SELECT count(*) FROM telemetry", 3).await;
    server.wait_for("SELECT count(*) FROM replays WHERE outcome = 'stored'", 3).await;
    server.wait_for("SELECT count(*) FROM replays WHERE outcome = 'dead_letter'", 1).await;
    let again = body(server.post(path, &json!({"reason": "ts_in_future"})).await, 200).await;
    assert_eq!((&again["replayed"], &again["skipped"]), (&json!(0), &json!(3)));
    assert_eq!(server.number("SELECT count(*) FROM telemetry").await, 3);
    server.wait_for("SELECT sum(replayed) FROM ledger WHERE device_id IS NULL", 4).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completeness_counts_what_is_there_and_what_is_not() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let device = server.device("d").await;
    let now = chrono::Utc::now().timestamp_millis() / 3_600_000 * 3_600_000;
    let numbered = |n: i64| json!({"ts": now - 60_000 * (60 - n), "seq": n, "boot": 4, "f": 50});
    for n in (0..60).filter(|n| ![7, 8, 30].contains(n)) {
        let reading = numbered(n).to_string();
        device.publish("acuvim/d/telemetry", reading, false).await.expect("ack");
    }
    device.publish("acuvim/d/telemetry", numbered(3).to_string(), false).await.expect("ack");
    device.publish("acuvim/d/telemetry", "?", false).await.expect("ack");
    server.wait_for("SELECT count(*) FROM telemetry", 57).await;
    until(&server, "/api/devices/d", |_| true).await;
    let set = json!({"section": "telemetry", "values": {"interval_s": 60}});
    body(server.post("/api/devices/d/config", &set).await, 202).await;
    server
        .wait_for("SELECT coalesce(sum(duplicates), 0) FROM ledger WHERE device_id = 'd'", 1)
        .await;
    server
        .wait_for("SELECT coalesce(sum(dead_letters), 0) FROM ledger WHERE device_id = 'd'", 1)
        .await;
    let to = now + 7_200_000;
    let path = format!("/api/devices/d/completeness?from={}&to={to}", now - 3_600_000);
    let found: Value = body(server.get(&path).await, 200).await;
    assert_eq!((&found["stored"], &found["missing_seq"]), (&json!(57), &json!(3)), "{found:#}");
    assert_eq!((&found["duplicates"], &found["dead_letters"]), (&json!(1), &json!(1)));
    assert_eq!(found["interval_s"], 60);
    let expected = found["expected"].as_i64().expect("a number");
    assert!((60..=120).contains(&expected), "nothing of what is yet to come: {expected}");
    let hours = found["hours"].as_array().expect("hours");
    let first = json!({"hour": hours[0]["hour"], "stored": 57, "expected": 60});
    assert_eq!((hours.len(), &hours[0]), (3, &first));
    assert_eq!(hours[2]["expected"], 0);
    let boots = json!([{"boot": 4, "first_seq": 0, "last_seq": 59, "missing": 3}]);
    assert_eq!(found["boots"], boots);
    let long = format!("/api/devices/d/completeness?from={}&to={to}", now - 40 * 86_400_000);
    body(server.get(&long).await, 400).await;
    server.stop().await;
}
