//! One update from end to end: upload, list, check, download, deploy, command over MQTT, confirmation.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::{
    HARDWARE, deploy,
    logger::{Habit, Logger, Pace},
    release,
};
use crate::{fleet::until, harness::Server};

const PACE: Pace =
    Pace { step: Duration::from_millis(300), heartbeat: Duration::from_millis(500), range: 4096 };

/// Updates one logger; returns its device id.
pub async fn updated(server: &Server, broker: SocketAddr, version: &str) -> String {
    let image = release(server, version, 60_000).await;
    let listed: Value = server.get("/api/firmware").await.json().await.expect("JSON");
    assert_eq!(listed["items"][0]["version"], version);
    assert_eq!(listed["items"][0]["file_size"], image.len());
    let logger =
        Logger::start(broker, &format!("ota-{}", version.replace('.', "-")), Habit::Breaks, PACE);
    let is_known = |device: &Value| device["firmware_version"] == "1.1.0";
    until(server, &format!("/api/devices/{}", logger.id), is_known).await;

    let check = format!("/api/firmware/check?device_id={}", logger.id);
    let offered: Value = server.get(&check).await.json().await.expect("JSON");
    assert_eq!(
        (&offered["update_available"], &offered["version"]),
        (&json!(true), &json!(version))
    );
    let url = offered["url"].as_str().expect("a URL");
    assert!(!url.contains("?t="), "the device's token is the device's: {url}");
    let fetched = server.client.get(url).bearer_auth(server.token().await);
    let fetched = fetched.send().await.expect("an answer");
    assert_eq!(fetched.headers()["content-length"], image.len().to_string().as_str());
    assert_eq!(fetched.bytes().await.expect("bytes"), image);

    let rollout = deploy(server, &json!({ "version": version, "device_ids": [logger.id] })).await;
    let path = format!("/api/firmware/rollouts/{rollout}");
    let done = until(server, &path, |rollout| rollout["state"] == "completed").await;
    assert_eq!(done["devices"]["confirmed"], 1, "{done:#}");
    assert_eq!(done["progress"], "1 confirmed of 1 devices");
    let told = logger.told();
    assert_eq!((told.len(), &told[0]["command"]), (1, &json!("ota_update")));
    let after: Value = server.get(&check).await.json().await.expect("JSON");
    assert_eq!(after["update_available"], false, "{after}");
    let device: Value =
        server.get(&format!("/api/devices/{}", logger.id)).await.json().await.expect("JSON");
    assert_eq!(device["firmware_version"], version);
    logger.id.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_way_from_upload_to_confirmation() {
    let dir = tempfile::tempdir().expect("dir");
    let set = ["firmware.rollout_interval_seconds=1", "lake.flush_interval_ms=300"];
    let server = Server::start(dir.path(), &set).await;
    let id = updated(&server, server.mqtt, "1.2.0").await;

    // Every step can be queried, and is in the device's events.
    let query = format!(
        "SELECT d.state, r.state, f.signed FROM rollout_devices d JOIN rollouts r ON r.id = d.rollout_id
         JOIN firmware f ON f.version = r.version WHERE d.device_id = '{id}'"
    );
    let rows = server.sql(&query).await.rows;
    assert_eq!(rows, [[json!("confirmed"), json!("completed"), json!(false)]]);
    let events = format!(
        "SELECT count(*) FROM device_events WHERE device_id = '{id}' AND event = 'update'
         AND reason IN ('1.2.0 offered', '1.2.0 installing', '1.2.0 confirmed')"
    );
    server.wait_for(&events, 3).await;

    // The token in the command is masked for everybody.
    let commands: Value =
        server.get(&format!("/api/devices/{id}/commands")).await.json().await.expect("JSON");
    let shown = commands["items"][0]["params"]["url"].as_str().expect("a URL");
    assert!(shown.ends_with("?t=********"), "{shown}");
    let audit: Value = server.get("/api/audit?limit=1000").await.json().await.expect("JSON");
    assert!(!audit.to_string().contains(&format!("t={id}")), "{audit}");

    // The device runs the version already, so there is nothing to deploy; a needed release can't be deleted.
    let body = json!({ "version": "1.2.0", "device_ids": [id, "nobody"] });
    let answer = server.post("/api/firmware/deploy", &body).await;
    assert_eq!(answer.status(), 422);
    let said = answer.text().await.expect("text");
    assert!(
        said.contains("it runs this version already") && said.contains("no such device"),
        "{said}"
    );
    let delete = async |path: &str| {
        let token = server.token().await;
        let request = server.client.delete(format!("{}{path}", server.http));
        request.bearer_auth(token).send().await.expect("an answer").status()
    };
    assert_eq!(delete("/api/firmware/1.2.0").await, 409);
    let put = server
        .client
        .put(format!("{}/api/firmware/1.2.0", server.http))
        .bearer_auth(server.token().await)
        .json(&json!({ "active": false, "release_notes": "withdrawn" }));
    let hidden: Value = put.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&hidden["active"], &hidden["release_notes"]), (&json!(false), &json!("withdrawn")));
    let path = format!(
        "/api/firmware/check?hardware={}&current_version=1.0.0",
        HARDWARE.replace(' ', "%20")
    );
    let offered: Value = server.get(&path).await.json().await.expect("JSON");
    assert_eq!(offered["update_available"], false);
    assert_eq!(delete("/api/firmware/1.2.0?force=true").await, 204);
    assert_eq!(delete("/api/firmware/1.2.0?force=true").await, 404);
    let images = std::fs::read_dir(dir.path().join("firmware")).expect("a folder").count();
    assert_eq!(images, 0, "its image is gone");
    server.stop().await;
}
