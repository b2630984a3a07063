//! Commands through Mosquitto and Kafka, with control on PostgreSQL: the same final states and answers.

use std::time::Instant;

use acuvim_simulator::mqtt::Connection;
use serde_json::{Value, json};

use crate::{
    fleet::every_course,
    harness::{PATIENCE, Server, T0, connect, reading},
    stack::Stack,
};

async fn ready(server: &Server) {
    let begun = Instant::now();
    let ready = format!("{}/readyz", server.http);
    while !server.client.get(&ready).send().await.expect("answer").status().is_success() {
        assert!(begun.elapsed() < PATIENCE, "{ready}");
        crate::harness::pause(begun).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_and_every_odd_answer_through_mosquitto_and_kafka() {
    let stack = Stack::shared().await;
    let extra = ["commands.check_interval_seconds=1"];
    let ingest = stack.serve("ingest", "ingest", &extra).await;
    let processor = stack.serve("processor", "processor", &extra).await;
    let query = stack.serve("query", "query", &extra).await;
    ready(&ingest).await;
    every_course(&query, stack.mqtt).await;
    for server in [query, processor, ingest] {
        server.stop().await;
    }
}

/// The sum of a metric over its labels.
async fn counted(server: &Server, name: &str) -> f64 {
    let url = format!("{}/metrics", server.http);
    let text = server.client.get(url).send().await.expect("answer").text().await.expect("text");
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_makes_no_half_command_and_readings_go_on() {
    let stack = Stack::with_own_postgres().await;
    let mut ingest = stack.serve("ingest", "ingest", &[]).await;
    let mut processor = stack.serve("processor", "processor", &[]).await;
    let mut query = stack.serve("query", "query", &[]).await;
    for server in [&mut ingest, &mut processor, &mut query] {
        server.expect("away; trying again");
    }
    ready(&ingest).await;
    let device = Connection::open(&connect(stack.mqtt, "d")).await.expect("open");
    let publish = async |n: i64| {
        device.publish("acuvim/d/telemetry", reading(T0 + n * 1000), false).await.expect("ack");
    };
    publish(0).await;
    query.wait_for("SELECT count(*) FROM telemetry", 1).await;
    let body = json!({"command": "ping", "deliver": "when_online"});
    let begun = Instant::now();
    while query.post("/api/devices/d/command", &body).await.status() != 202 {
        assert!(begun.elapsed() < PATIENCE, "the device has a row");
        crate::harness::pause(begun).await;
    }
    let processed = counted(&processor, "acuvim_records_processed_total").await;
    stack.services.kill("postgres");
    let refused = query.post("/api/devices/d/command", &body).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let problem: Value = refused.json().await.expect("JSON");
    assert_eq!(problem["code"], "unavailable");
    for n in 1..=100 {
        publish(n).await;
    }
    let begun = Instant::now();
    while counted(&processor, "acuvim_records_processed_total").await < processed + 100.0 {
        assert!(begun.elapsed() < PATIENCE, "the stream waits for control");
        crate::harness::pause(begun).await;
    }
    stack.services.again(&["postgres"]);
    query.wait_for("SELECT count(*) FROM telemetry", 101).await;
    let commands: Value = query.get("/api/devices/d/commands").await.json().await.expect("JSON");
    assert_eq!(commands["total"], 1, "no half of the refused one");
    for server in [query, processor, ingest] {
        server.stop().await;
    }
}
