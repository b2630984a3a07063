//! Components that are set up wrongly stop the start with one line; those that are away are waited
//! for, and named meanwhile.

use std::time::Instant;

use serde_json::Value;

use super::load::expect_outages;
use crate::{
    harness::{PATIENCE, Server},
    services::Services,
    stack::Stack,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_wrongly_stops_the_start_with_one_line_that_names_it() {
    let stack = Stack::shared().await;
    stack.serve("right", "ingest,processor,query", &[]).await.stop().await;
    let other = Services::new();
    let other_kafka = tokio::task::block_in_place(|| other.kafka(1));
    let wrong_password = stack.postgres.replace(":acuvim@", ":wrong@");
    for (set, says) in [
        (format!("control.url={wrong_password}"), "password authentication failed"),
        (format!("control.url={}x", stack.postgres), "does not exist"),
        ("log.partitions=8".to_owned(), "this system was made with 4"),
        ("log.retention_hours=4000".to_owned(), ".uplink (log.url) keeps records for"),
        (format!("log.url=kafka://{other_kafka}"), "this system was made with the Kafka cluster"),
        ("process.roles=cook".to_owned(), "process.roles"),
    ] {
        let starting = stack.spawn("wrong", "ingest,processor,query", &[&set]);
        let line = tokio::task::block_in_place(|| starting.ended());
        assert!(line.starts_with("acuvim: "), "{set}: {line}");
        assert!(line.contains(says), "{set}: {line}");
    }
    let mut environment = stack.environment();
    for (name, value) in &mut environment {
        if name == "AWS_SECRET_ACCESS_KEY" {
            *value = "wrong".to_owned();
        }
    }
    let settings = stack.settings("ingest,processor,query", &[]);
    let set: Vec<&str> = settings.iter().map(String::as_str).collect();
    let dir = tempfile::tempdir().expect("dir");
    let starting = Server::spawn(dir.path(), &set, &environment);
    let line = tokio::task::block_in_place(|| starting.ended());
    assert!(line.starts_with(&format!("acuvim: {}/telemetry (lake.url)", stack.lake())), "{line}");
    assert!(line.contains("SignatureDoesNotMatch"), "{line}");
}

async fn not_ready(at: &str) -> Vec<String> {
    let Ok(answer) = reqwest::get(format!("http://{at}/readyz")).await else { return Vec::new() };
    assert_ne!(answer.status(), 200, "not ready before it serves");
    let answer: Value = answer.json().await.expect("json");
    let components = answer["not_ready"].as_array().expect("a list").clone();
    components.iter().map(|c| c["component"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_components_that_are_away_and_names_them() {
    let stack = Stack::own(1).await;
    let parts = ["postgres", "kafka-1", "s3"];
    parts.iter().for_each(|part| stack.services.kill(part));
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let at = free.local_addr().expect("address").to_string();
    drop(free);
    let listen = format!("http.listen={at}");
    let starting = stack.spawn("late", "ingest,processor,query", &[&listen]);
    for (part, component) in parts.into_iter().zip(["control", "log", "lake"]) {
        let begun = Instant::now();
        while !not_ready(&at).await.contains(&component.to_owned()) {
            assert!(begun.elapsed() < PATIENCE, "{component} is not named");
            crate::harness::pause(begun).await;
        }
        tokio::task::block_in_place(|| stack.services.again(&[part]));
    }
    let mut server: Server = starting.serving().await;
    expect_outages(&mut server);
    server.wait_for("SELECT count(*) FROM telemetry", 0).await;
    server.stop().await;
}
