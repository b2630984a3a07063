//! Configuration: desired until the device confirms it, sent again when the device comes back; secrets
//! are shown to nobody but the device.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answering::{Answering, ended, success, until};
use crate::harness::Server;

#[tokio::test(flavor = "multi_thread")]
async fn desired_is_sent_until_the_device_has_it() {
    let dir = tempfile::tempdir().expect("dir");
    let mut server = Server::start(dir.path(), &["commands.check_interval_seconds=1"]).await;
    server.expect("nothing");
    let refuses = Arc::new(|command: &Value| {
        vec![json!({"request_id": command["request_id"], "status": "error", "error": "busy"})]
    });
    let device = Answering::at(server.mqtt, "c1", refuses).await;
    until(&server, "/api/devices/c1", |d| d["registered"] == true).await;
    let values = json!({"ssid": "plant", "password": "hunter22"});
    let body = json!({"section": "wifi", "values": values});
    let answer = server.post("/api/devices/c1/config", &body).await;
    assert_eq!(answer.status(), 202);
    let given: Value = answer.json().await.expect("JSON");
    let now = ended(&server, given["request_id"].as_str().expect("id")).await;
    assert_eq!(now["status"], "error");
    let config: Value = server.get("/api/devices/c1/config").await.json().await.expect("JSON");
    assert_eq!(config["drift"]["wifi"], json!(["password", "ssid"]));
    assert_eq!(config["desired"]["wifi"]["password"], "********");
    assert_eq!(config["reported"], json!({}));
    device.vanish();
    let device = Answering::good(&server, "c1").await;
    let config = until(&server, "/api/devices/c1/config", |c| c["drift"] == json!({})).await;
    assert_eq!(config["reported"]["wifi"], json!({"ssid": "plant", "password": "********"}));
    let got = device.got.lock().expect("lock").clone();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0]["params"]["values"], values, "the device gets the secret");
    let history: Value =
        server.get("/api/devices/c1/config/history").await.json().await.expect("JSON");
    assert_eq!((&history["total"], &history["items"][0]["by"]), (&json!(1), &json!("admin")));
    for path in [
        "/api/devices/c1/config",
        "/api/devices/c1/config/history",
        "/api/devices/c1/commands",
        "/api/audit",
    ] {
        let text = server.get(path).await.text().await.expect("text");
        assert!(!text.contains("hunter22"), "{path}");
    }
    for (body, word) in [
        (json!({"section": "nope", "values": {"a": 1}}), "section"),
        (json!({"section": "wifi", "values": {}}), "values"),
        (json!({"section": "telemetry", "values": {"interval_s": -1}}), "values.interval_s"),
        (json!({"section": "wifi", "values": {"password": "********"}}), "mask"),
    ] {
        let answer = server.post("/api/devices/c1/config", &body).await;
        assert_eq!(answer.status(), 400, "{body}");
        let problem: Value = answer.json().await.expect("JSON");
        assert!(problem.to_string().contains(word), "{body}: {problem}");
        assert!(!problem.to_string().contains("params."), "{problem}");
    }
    device.vanish();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_waits_for_its_answer_or_says_where_to_find_it() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let networks = json!({"networks": [{"ssid": "plant", "rssi": -50}]});
    let answer = networks.clone();
    let scans = Arc::new(move |command: &Value| {
        vec![json!({"request_id": command["request_id"], "status": "success", "data": answer})]
    });
    let device = Answering::at(server.mqtt, "w", scans).await;
    until(&server, "/api/devices/w", |d| d["registered"] == true).await;
    let path = "/api/devices/w/config/wifi/scan";
    let scan = server.get(path).await;
    assert_eq!(scan.status(), 200);
    let scan: Value = scan.json().await.expect("JSON");
    assert_eq!(scan["data"], networks);
    device.vanish();
    let silent = Answering::at(server.mqtt, "w", Arc::new(|_| vec![])).await;
    let later = server.get(&format!("{path}?timeout_seconds=1")).await;
    assert_eq!(later.status(), 202);
    let later: Value = later.json().await.expect("JSON");
    let id = later["request_id"].as_str().expect("id");
    let talk = server.device("talk").await;
    let answer = success(&json!({"request_id": id, "command": "wifi_scan", "params": {}}));
    talk.publish("acuvim/w/resp", answer.to_string(), false).await.expect("ack");
    assert_eq!(ended(&server, id).await["status"], "success");
    assert_eq!(server.get(&format!("{path}?timeout_seconds=0")).await.status(), 400);
    silent.vanish();
    server.stop().await;
}
