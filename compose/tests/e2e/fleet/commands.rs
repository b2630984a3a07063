//! Commands over real MQTT and HTTP: every command, every final state, every unexpected answer.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use acuvim_wire::command::CommandKind;
use serde_json::{Value, json};

use super::answering::{Answering, Manner, ended, give, success, until};
use crate::harness::{PATIENCE, Server, connect};

/// Parameters that each command accepts, of typical size.
fn params(kind: CommandKind) -> Value {
    match kind {
        CommandKind::SetConfig => json!({"section": "telemetry", "values": {"interval_s": 10}}),
        CommandKind::FactoryReset => json!({"confirm": true}),
        CommandKind::WifiSet => json!({"ssid": "plant-north", "password": "correct horse"}),
        CommandKind::TransportSet => json!({"mode": "gsm"}),
        CommandKind::OtaUpdate => json!({
            "url": format!("https://fleet.example.net/api/firmware/download/1.3.0?t={}", "x".repeat(43)),
            "version": "1.3.0", "checksum": "a".repeat(64)
        }),
        CommandKind::ModbusRead => json!({"address": 16384, "count": 100, "function": 3}),
        CommandKind::ModbusWrite => json!({"address": 4096, "values": vec![65_535; 16]}),
        CommandKind::SetInterval => json!({"telemetry_s": 10, "heartbeat_s": 60}),
        CommandKind::LogTail => json!({"lines": 100}),
        _ => json!({}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_twenty_reaches_its_device_in_a_packet_that_it_takes() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let device = Answering::good(&server, "ACV-AABBCCDDEEFF").await;
    let mut sizes = Vec::new();
    for kind in CommandKind::ALL {
        let body = json!({"command": kind.as_str(), "params": params(kind)});
        let id = give(&server, &device.id, body).await;
        let now = ended(&server, &id).await;
        assert_eq!(now["status"], "success", "{now:#}");
        // `sent` comes through the stream, perhaps after the answer.
        let now =
            until(&server, &format!("/api/commands/{id}"), |c| c["sent_at"].is_string()).await;
        for time in ["created_at", "sent_at", "finished_at"] {
            assert!(now[time].is_string(), "{kind} {time}: {now:#}");
        }
        let got = device.got.lock().expect("lock").last().cloned().expect("a command");
        assert_eq!((&got["request_id"], &got["params"]), (&json!(id), &params(kind)));
        let topic = format!("acuvim/{}/cmd", device.id);
        // An MQTT 3.1.1 device gets no properties.
        let bytes = acuvim_wire::command::packet_bytes(&topic, &got.to_string()) - 6;
        sizes.push((bytes, kind));
        assert!(bytes <= 1024, "{kind}: {bytes}");
    }
    println!("packets: {sizes:?}");
    assert_eq!(device.count(), 20, "each once");
    let secret: Value = server
        .get(&format!("/api/devices/{}/commands?limit=1000", device.id))
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(secret["total"], 20);
    assert!(!secret.to_string().contains("correct horse"));
    // A command too large for a small device is refused instead of being lost.
    let register = json!({"device_id": device.id, "max_packet_bytes": 256}).to_string();
    let talk = server.device("other").await;
    talk.publish("devices/register", register, false).await.expect("ack");
    let path = format!("/api/devices/{}", device.id);
    until(&server, &path, |d| d["max_packet_bytes"] == 256).await;
    let body = json!({"command": "ota_update", "params": params(CommandKind::OtaUpdate)});
    let refused = server.post(&format!("{path}/command"), &body).await;
    assert_eq!(refused.status(), 422);
    let problem: Value = refused.json().await.expect("JSON");
    assert_eq!(problem["code"], "command_too_large");
    assert_eq!(device.count(), 20);
    device.vanish();
    server.stop().await;
}

/// Devices that answer in every way, at any broker: the final state of each command, and what is kept.
pub async fn every_course(server: &Server, broker: SocketAddr) {
    let status = |command: &Value, status: &str| json!({"request_id": command["request_id"], "status": status, "data": {}, "error": "no"});
    let answering: Vec<(&str, Manner, &str)> = vec![
        ("good", Arc::new(|c| vec![success(c)]), "success"),
        ("slow", Arc::new(move |c| vec![status(c, "ack"), success(c)]), "success"),
        ("bad", Arc::new(move |c| vec![status(c, "error")]), "error"),
        ("silent", Arc::new(|_| vec![]), "timeout"),
        ("halfway", Arc::new(move |c| vec![status(c, "ack")]), "timeout"),
        ("twice", Arc::new(move |c| vec![success(c), status(c, "error"), success(c)]), "success"),
        (
            "confused",
            Arc::new(|_| {
                let id = "018f0000-0000-7000-8000-000000000000";
                vec![
                    json!({"request_id": id, "status": "success"}),
                    json!({"request_id": "?", "status": "ack"}),
                ]
            }),
            "timeout",
        ),
    ];
    let mut devices = Vec::new();
    for (name, manner, _) in &answering {
        devices.push(Answering::at(broker, name, Arc::clone(manner)).await);
        until(server, &format!("/api/devices/{name}"), |d| d["registered"] == true).await;
    }
    // A long timeout for devices that answer, since the machine may be busy; a short one for the others.
    let short = json!({"command": "ping", "timeout_seconds": 5});
    let long = json!({"command": "ping", "timeout_seconds": 60});
    let mut given = Vec::new();
    for (name, _, want) in &answering {
        let body = if *want == "timeout" { short.clone() } else { long.clone() };
        given.push((*name, give(server, name, body).await, *want));
    }
    for (name, id, want) in &given {
        let now = ended(server, id).await;
        assert_eq!(&now["status"], want, "{name}: {now:#}");
        // `sent` is a record of its own, and may come after the answer.
        let path = format!("/api/commands/{id}");
        let now = until(server, &path, |c| c["sent_at"].is_string()).await;
        assert!(now["sent_at"].is_string() && now["finished_at"].is_string(), "{name}: {now:#}");
        assert_eq!(now["ack_at"].is_string(), ["slow", "halfway"].contains(name), "{now:#}");
    }
    assert!(devices.iter().all(|device| device.count() == 1), "each got it once");
    let id = |name: &str| given.iter().find(|g| g.0 == name).expect("given").1.clone();
    let twice = until(server, &format!("/api/commands/{}", id("twice")), |c| {
        c["other_answers"].as_array().is_some_and(|a| a.len() == 2)
    })
    .await;
    assert_eq!(twice["other_answers"][0]["verdict"], "repeated");
    // One answer is late, one is from another device.
    let late = id("silent");
    let talk =
        acuvim_simulator::mqtt::Connection::open(&connect(broker, "talk")).await.expect("open");
    let answer = json!({"request_id": late, "status": "success"}).to_string();
    for device in ["silent", "good"] {
        talk.publish(&format!("acuvim/{device}/resp"), answer.clone(), false).await.expect("ack");
    }
    let now = until(server, &format!("/api/commands/{late}"), |c| {
        c["other_answers"].as_array().is_some_and(|a| a.len() == 2)
    })
    .await;
    assert_eq!(now["status"], "timeout");
    let mut verdicts: Vec<&str> =
        (0..2).filter_map(|n| now["other_answers"][n]["verdict"].as_str()).collect();
    verdicts.sort_unstable();
    assert_eq!(verdicts, ["late", "wrong_device"]);
    // A device that is offline: the command is never `sent`, nor delivered later.
    devices.remove(0).vanish();
    let off = give(server, "good", short.clone()).await;
    let now = ended(server, &off).await;
    assert_eq!((&now["status"], &now["sent_at"]), (&json!("timeout"), &Value::Null), "{now:#}");
    // A command that waits for the device.
    let waits = json!({"command": "sd_flush", "deliver": "when_online", "expires_seconds": 600});
    let waiting = give(server, "good", waits).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let now: Value =
        server.get(&format!("/api/commands/{waiting}")).await.json().await.expect("JSON");
    assert_eq!((&now["status"], &now["sent_at"]), (&json!("pending"), &Value::Null));
    let back = Answering::at(broker, "good", Arc::new(|c| vec![success(c)])).await;
    assert_eq!(ended(server, &waiting).await["status"], "success");
    assert_eq!(back.count(), 1, "and not the one that timed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_and_every_odd_answer_through_the_built_in_broker() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["commands.check_interval_seconds=1"]).await;
    let broker = server.mqtt;
    every_course(&server, broker).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_refused_and_what_was_given_is_not_given_again() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let device = Answering::good(&server, "d").await;
    until(&server, "/api/devices/d", |d| d["registered"] == true).await;
    for (body, status, word) in [
        (json!({"command": "dance"}), 400, "wifi_scan"),
        (json!({"command": "ping", "params": {"x": 1}}), 400, "params.x"),
        (json!({"command": "ping", "timeout_seconds": 0}), 400, "timeout_seconds"),
        (json!({"command": "ping", "expires_seconds": 9}), 400, "expires_seconds"),
        (json!({"command": "reboot", "deliver": "when_online"}), 400, "deliver"),
        (json!({"command": "ping", "deliver": "never"}), 400, "never"),
        (json!({"command": "ping", "idempotency_key": ""}), 400, "idempotency_key"),
        (json!({"command": "modbus_read", "params": {"address": 1}}), 400, "params.count"),
        (json!({"command": "a b", "raw": true}), 400, "command"),
        (json!({"command": "log_tail", "params": {"lines": 1}, "colour": 1}), 400, "colour"),
        (json!({"command": "x", "raw": true, "params": {"y": "z".repeat(2000)}}), 422, "bytes"),
    ] {
        let answer = server.post("/api/devices/d/command", &body).await;
        assert_eq!(answer.status(), status, "{body}");
        let text = answer.text().await.expect("text");
        assert!(text.contains(word), "{body}: {text}");
    }
    let none = server.post("/api/devices/none/command", &json!({"command": "ping"})).await;
    assert_eq!(none.status(), 404);
    assert_eq!(device.count(), 0, "nothing of it went out");
    let raw = give(&server, "d", json!({"command": "dance", "raw": true})).await;
    assert_eq!(ended(&server, &raw).await["status"], "success");
    let keyed = json!({"command": "ping", "idempotency_key": "order 66"});
    let first = give(&server, "d", keyed.clone()).await;
    assert_eq!(give(&server, "d", keyed).await, first);
    ended(&server, &first).await;
    assert_eq!(device.count(), 2);
    device.vanish();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_five_hundred_answers_one_command() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let group: Value =
        server.post("/api/groups", &json!({"name": "all"})).await.json().await.expect("group");
    let group = group["id"].as_str().expect("id");
    let path = format!("/api/groups/{group}/command");
    let empty = server.post(&path, &json!({"command": "ping"})).await;
    assert_eq!(empty.status(), 422, "a group without devices");
    let ids: Vec<String> = (0..500).map(|n| format!("g{n}")).collect();
    let mut devices = Vec::new();
    let slow = Arc::new(Mutex::new(0));
    for id in &ids {
        let slow = Arc::clone(&slow);
        let manner: Manner = Arc::new(move |command| {
            *slow.lock().expect("lock") += 1;
            vec![success(command)]
        });
        devices.push(Answering::at(server.mqtt, id, manner).await);
    }
    until(&server, "/api/dashboard/summary", |s| s["online"] == 500).await;
    let change = json!({"add": ids});
    let members = server.post(&format!("/api/groups/{group}/members"), &change).await;
    assert_eq!(members.status(), 200);
    let begun = Instant::now();
    let given: Value =
        server.post(&path, &json!({"command": "meter_info"})).await.json().await.expect("JSON");
    assert_eq!((&given["total"], &given["skipped"]), (&json!(500), &json!([])));
    let follow =
        format!("/api/groups/{group}/commands/{}", given["group_command"].as_str().expect("id"));
    let done = until(&server, &follow, |s| s["done"] == true).await;
    println!("500 devices answered after {:?}", begun.elapsed());
    assert_eq!((&done["success"], &done["total"]), (&json!(500), &json!(500)), "{done:#}");
    assert_eq!(*slow.lock().expect("lock"), 500, "each once");
    let page: Value = server
        .get(&format!("{follow}/devices?status=success&limit=1000"))
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(page["items"].as_array().map(Vec::len), Some(500));
    assert!(begun.elapsed() < PATIENCE);
    drop(devices);
    server.stop().await;
}
