//! `kill -9` with commands in flight.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::answering::{Answering, Manner, ended, give, success, until};
use crate::harness::Server;

/// A hundred commands while the process is killed: each has one final state, and no device receives one
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_in_flight_end_once_and_none_is_sent_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let set = ["commands.check_interval_seconds=1", "http.requests_per_user=0"];
    let server = Server::start(dir.path(), &set).await;
    let manner: Manner = Arc::new(|command| {
        // As slow as a device, so that kills come before, between and after answers.
        std::thread::sleep(Duration::from_millis(3));
        vec![success(command)]
    });
    let start = async |server: &Server| {
        let mut devices = Vec::new();
        for n in 0..10 {
            devices.push(Answering::at(server.mqtt, &format!("k{n}"), Arc::clone(&manner)).await);
        }
        until(server, "/api/dashboard/summary", |s| s["online"] == 10).await;
        devices
    };
    let before = start(&server).await;
    let ping = json!({"command": "ping", "timeout_seconds": 15});
    let mut given = Vec::new();
    for n in 0..100 {
        given.push(give(&server, &format!("k{}", n % 10), ping.clone()).await);
    }
    server.kill();
    let server = Server::start(dir.path(), &set).await;
    let after = start(&server).await;
    let mut ends: HashMap<String, usize> = HashMap::new();
    for id in &given {
        let now = ended(&server, id).await;
        *ends.entry(now["status"].as_str().expect("text").to_owned()).or_default() += 1;
    }
    println!("{ends:?}");
    assert_eq!(ends.values().sum::<usize>(), 100);
    assert!(!ends.contains_key("error"));
    let mut times: HashMap<String, usize> = HashMap::new();
    for device in before.iter().chain(&after) {
        for command in device.got.lock().expect("lock").iter() {
            let id = command["request_id"].as_str().expect("an id").to_owned();
            assert!(given.contains(&id), "none under a new id: {command}");
            *times.entry(id).or_default() += 1;
        }
    }
    assert!(times.values().all(|n| *n == 1), "{times:?}");
    // A successful command was received by its device, and its state has not changed since.
    let mut again: HashMap<String, usize> = HashMap::new();
    for id in &given {
        let now: Value =
            server.get(&format!("/api/commands/{id}")).await.json().await.expect("JSON");
        assert!(now["status"] != "success" || times.contains_key(id), "{now:#}");
        *again.entry(now["status"].as_str().expect("text").to_owned()).or_default() += 1;
    }
    assert_eq!(again, ends);
    // Connections broken by the kill.
    drop((before, after));
    server.stop().await;
}
