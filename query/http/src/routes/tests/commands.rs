//! Commands and configuration: what is checked before a device is told.

use serde_json::{Value, json};

use crate::testing::Server;

const PATH: &str = "/api/devices/d1/command";

#[tokio::test]
async fn a_command_is_stored_and_followed() {
    let server = Server::new().await;
    server.device("d1").await;
    let given = server.post(&server.operator, PATH, json!({"command": "ping"})).await;
    assert_eq!(given.status, 202);
    let id = given.json()["request_id"].as_str().expect("an id").to_owned();
    let command = server.get(&server.viewer, &format!("/api/commands/{id}")).await.json();
    assert_eq!((&command["device_id"], &command["command"]), (&json!("d1"), &json!("ping")));
    assert_eq!(command["created_by"], "test");
    let listed = server.get(&server.viewer, "/api/devices/d1/commands").await.json();
    assert_eq!(listed["total"], 1);
    let done = server.get(&server.viewer, "/api/devices/d1/commands?status=success").await.json();
    assert_eq!(done["total"], 0);
    let other = server.scoped(acuvim_model::Role::Viewer, &["d2"]).await;
    server.get(&other, &format!("/api/commands/{id}")).await.problem(404);
    server
        .post(&server.operator, "/api/devices/none/command", json!({"command": "ping"}))
        .await
        .problem(404);
}

#[tokio::test]
async fn a_request_that_was_sent_twice_is_one_command() {
    let server = Server::new().await;
    server.device("d1").await;
    let body = json!({"command": "ping", "idempotency_key": "once"});
    let one = server.post(&server.operator, PATH, body.clone()).await.json();
    let again = server.post(&server.operator, PATH, body).await.json();
    assert_eq!(one["request_id"], again["request_id"]);
    let other = json!({"command": "ping", "idempotency_key": "another"});
    let other = server.post(&server.operator, PATH, other).await.json();
    assert_ne!(one["request_id"], other["request_id"]);
}

#[tokio::test]
async fn what_a_command_may_not_have_is_named() {
    let server = Server::new().await;
    server.device("d1").await;
    for (body, field) in [
        (json!({"command": "dance"}), "command"),
        (json!({"command": ""}), "command"),
        (json!({"command": "ping", "params": {"x": 1}}), "params.x"),
        (json!({"command": "set_interval"}), "params"),
        (json!({"command": "reboot", "deliver": "when_online"}), "deliver"),
        (json!({"command": "ping", "expires_seconds": 60}), "expires_seconds"),
        (json!({"command": "ping", "timeout_seconds": 0}), "timeout_seconds"),
        (json!({"command": "ping", "timeout_seconds": 86_401}), "timeout_seconds"),
        (
            json!({"command": "ping", "deliver": "when_online", "expires_seconds": 0}),
            "expires_seconds",
        ),
        (
            json!({"command": "ping", "deliver": "when_online", "expires_seconds": 30 * 86_400 + 1}),
            "expires_seconds",
        ),
        (json!({"command": "ping", "idempotency_key": ""}), "idempotency_key"),
        (json!({"command": "ping", "idempotency_key": "x".repeat(101)}), "idempotency_key"),
        (json!({"command": "a b", "raw": true}), "command"),
        (json!({"command": "x".repeat(65), "raw": true}), "command"),
        (json!({"command": "ping", "priority": 1}), "priority"),
    ] {
        assert_eq!(server.post(&server.admin, PATH, body.clone()).await.field(), field, "{body}");
    }
    let params: serde_json::Map<String, Value> =
        (0..65).map(|n| (format!("p{n}"), json!(n))).collect();
    let body = json!({"command": "custom", "raw": true, "params": params});
    assert_eq!(server.post(&server.admin, PATH, body).await.field(), "params");
    let longest = json!({"command": "ping", "deliver": "when_online", "timeout_seconds": 86_400, "expires_seconds": 30 * 86_400});
    assert_eq!(server.post(&server.admin, PATH, longest).await.status, 202);
    let custom = json!({"command": "custom.x-1", "raw": true, "params": {"a": [1]}});
    assert_eq!(server.post(&server.admin, PATH, custom).await.status, 202);
}

#[tokio::test]
async fn a_disabled_device_is_told_nothing() {
    let server = Server::new().await;
    server.device("d1").await;
    server.patch(&server.admin, "/api/devices/d1", json!({"enabled": false})).await.json();
    let refused = server.post(&server.admin, PATH, json!({"command": "ping"})).await.problem(422);
    assert!(refused.contains("disabled"), "{refused}");
}

#[tokio::test]
async fn where_firmware_must_be_signed_no_command_brings_it_from_elsewhere() {
    let server = Server::with(|options| options.firmware.require_signature = true).await;
    server.device("d1").await;
    let url = "http://elsewhere.example/x.bin";
    for body in [
        json!({"command": "ota_update", "params": {"url": url, "version": "1.2.0", "checksum": "00".repeat(32)}}),
        json!({"command": "OTA-Update", "raw": true, "params": {"url": url}}),
        json!({"command": "firmware_fetch", "raw": true}),
    ] {
        let field = server.post(&server.admin, PATH, body.clone()).await.field();
        assert_eq!(field, "params.url", "{body}");
    }
    assert_eq!(server.post(&server.admin, PATH, json!({"command": "ping"})).await.status, 202);
}

#[tokio::test]
async fn a_configuration_is_desired_at_once_and_its_faults_are_named_as_the_caller_wrote_them() {
    let server = Server::new().await;
    server.device("d1").await;
    let path = "/api/devices/d1/config";
    let set = async |body: Value| server.post(&server.operator, path, body).await;
    assert_eq!(
        set(json!({"section": "telemetry", "values": {"interval_s": 10}})).await.status,
        202
    );
    let config = server.get(&server.viewer, path).await.json();
    assert_eq!(config["desired"]["telemetry"]["interval_s"], 10);
    assert!(config["reported"]["telemetry"]["interval_s"].is_null(), "the device has not said so");
    let history = server.get(&server.viewer, &format!("{path}/history")).await.json();
    assert_eq!(history["total"], 1);
    let bad = set(json!({"section": "colour", "values": {}})).await;
    assert_eq!(bad.field(), "section");
    assert!(!bad.text().contains("params."), "{}", bad.text());
    let bad = set(json!({"section": "telemetry", "values": {"interval_s": -1}})).await;
    assert_eq!(bad.field(), "values.interval_s");
    server
        .post(
            &server.operator,
            "/api/devices/none/config",
            json!({"section": "telemetry", "values": {"interval_s": 10}}),
        )
        .await
        .problem(404);
}

#[tokio::test]
async fn a_secret_of_a_configuration_is_in_no_answer() {
    let server = Server::new().await;
    server.device("d1").await;
    let body = json!({"section": "wifi", "values": {"ssid": "plant", "password": "hidden-word"}});
    let given = server.post(&server.admin, "/api/devices/d1/config", body).await;
    assert_eq!(given.status, 202, "{}", given.text());
    for path in [
        "/api/devices/d1/config",
        "/api/devices/d1/config/history",
        "/api/devices/d1/commands",
        "/api/audit",
    ] {
        let shown = server.get(&server.admin, path).await;
        assert_eq!(shown.status, 200, "{path}");
        assert!(!shown.text().contains("hidden-word"), "{path}: {}", shown.text());
    }
}

#[tokio::test]
async fn a_scan_waits_as_long_as_it_may_and_no_longer() {
    let server = Server::new().await;
    server.device("d1").await;
    let path = "/api/devices/d1/config/wifi/scan";
    for seconds in ["0", "51", "-1", "x"] {
        let answer =
            server.get(&server.operator, &format!("{path}?timeout_seconds={seconds}")).await;
        assert_eq!(answer.field(), "timeout_seconds", "{seconds}");
    }
}
