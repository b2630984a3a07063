//! Commands through Mosquitto and Kafka, with control on PostgreSQL: the same ends and odd answers.

use std::time::Duration;

use crate::{fleet::every_course, stack::Stack};

#[tokio::test(flavor = "multi_thread")]
async fn every_end_and_every_odd_answer_through_mosquitto_and_kafka() {
    let stack = Stack::start(1).await;
    let extra = ["commands.check_interval_seconds=1"];
    let ingest = stack.serve("ingest", "ingest", &extra).await;
    let processor = stack.serve("processor", "processor", &extra).await;
    let query = stack.serve("query", "query", &extra).await;
    let ready = format!("{}/readyz", ingest.http);
    let begun = std::time::Instant::now();
    while !ingest.client.get(&ready).send().await.expect("answer").status().is_success() {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "the bridge is not connected");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    every_course(&query, stack.mqtt).await;
    for server in [query, processor, ingest] {
        server.stop().await;
    }
}
