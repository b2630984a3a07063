//! Components that are unavailable for long: nothing is lost, memory stays bounded, `/readyz` names the
//! component, and everything continues by itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::load::{Load, expect_outages, verify};
use crate::{
    harness::{PATIENCE, Server, resident_mb},
    stack::Stack,
};

const FAST: [&str; 2] = ["lake.flush_interval_ms=700", "lake.compaction_interval_ms=1500"];

/// The components that `/readyz` names.
async fn not_ready(server: &Server) -> Vec<String> {
    let answer = server.client.get(format!("{}/readyz", server.http)).send().await;
    let answer: Value = answer.expect("an answer").json().await.expect("json");
    let components = answer["not_ready"].as_array().expect("a list").clone();
    components.iter().map(|c| c["component"].as_str().expect("text").to_owned()).collect()
}

/// How long the brokers are unavailable; `./dev nightly` sets two minutes.
fn outage() -> Duration {
    let set = std::env::var("ACUVIM_OUTAGE_SECONDS").ok().and_then(|n| n.parse().ok());
    Duration::from_secs(set.unwrap_or(20))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        crate::harness::pause(begun).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kafka_brokers_away_for_long_lose_nothing_and_memory_stays_bounded() {
    let stack = Stack::own(3).await;
    let mut servers = Vec::new();
    for roles in ["ingest", "processor", "query"] {
        let mut server = stack.serve(roles, roles, &FAST).await;
        expect_outages(&mut server);
        servers.push(server);
    }
    let load = Load::start(stack.mqtt, 6, Duration::from_millis(40));
    until("the load runs", async || load.acknowledged() > 1000).await;
    let before: Vec<u64> = servers.iter().map(|s| resident_mb(s.pid())).collect();
    let brokers = ["kafka-1", "kafka-2", "kafka-3"];
    brokers.iter().for_each(|broker| stack.services.kill(broker));
    let (begun, mut most) = (Instant::now(), before.clone());
    let mut named = false;
    while begun.elapsed() < outage() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        named |= not_ready(&servers[0]).await.contains(&"log".to_owned());
        for (most, server) in most.iter_mut().zip(&servers) {
            *most = resident_mb(server.pid()).max(*most);
        }
    }
    let taken = load.acknowledged();
    println!("resident MB of ingest, processor, query before: {before:?}, at most: {most:?}");
    assert!(named, "/readyz names the log");
    for (before, most) in before.iter().zip(&most) {
        assert!(*most < before + 200, "memory grew");
    }
    tokio::task::block_in_place(|| stack.services.again(&brokers));
    let back = Instant::now();
    until("ready again", async || {
        not_ready(&servers[0]).await.is_empty() && not_ready(&servers[1]).await.is_empty()
    })
    .await;
    let sent = load.stop().await;
    verify(&stack, &servers[2], &sent, |_| false).await;
    println!("{taken} taken by Mosquitto meanwhile; caught up after {:?}", back.elapsed());
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_component_that_is_away_or_hangs_is_named_and_all_goes_on_by_itself() {
    let stack = Stack::own(1).await;
    let mut server = stack.serve("all", "ingest,processor,query", &FAST).await;
    expect_outages(&mut server);
    server.expect("connections were still busy");
    let load = Load::start(stack.mqtt, 4, Duration::from_millis(40));
    for (part, component) in
        [("mosquitto", "mqtt"), ("kafka-1", "log"), ("s3", "lake"), ("postgres", "control")]
    {
        for hang in [false, true] {
            let before = load.acknowledged();
            until("the load runs", async || load.acknowledged() > before + 50).await;
            until("all is well", async || not_ready(&server).await.is_empty()).await;
            match hang {
                true => stack.services.pause(part),
                false => stack.services.kill(part),
            }
            // A new device causes a write to control; late readings make deduplication read the lake.
            until(component, async || {
                let who = format!("new-{}", rand_name());
                let _ = Load::once(stack.mqtt, &who).await;
                not_ready(&server).await.contains(&component.to_owned())
            })
            .await;
            match hang {
                true => stack.services.resume(part),
                false => tokio::task::block_in_place(|| stack.services.again(&[part])),
            }
        }
    }
    until("all is well", async || not_ready(&server).await.is_empty()).await;
    let _ = load.stop().await;
    server.stop().await;
}

fn rand_name() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect()
}
