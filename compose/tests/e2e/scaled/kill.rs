//! `kill -9` on every process of a system under load, and on every service behind it.

use std::time::{Duration, Instant};

use super::load::{Load, expect_outages, verify};
use crate::{
    harness::{PATIENCE, Server},
    stack::Stack,
};

const FAST: [&str; 3] =
    ["lake.flush_interval_ms=700", "lake.compaction_interval_ms=1500", "lake.compaction_fan_in=4"];

#[derive(Clone, Copy)]
struct Process {
    name: &'static str,
    roles: &'static str,
}

/// The processes, in the order in which they are killed.
const PROCESSES: [Process; 4] = [
    Process { name: "ingest", roles: "ingest" },
    Process { name: "one", roles: "processor" },
    Process { name: "query", roles: "query" },
    Process { name: "two", roles: "processor" },
];

async fn serve(stack: &Stack, process: Process) -> Server {
    let mut server = stack.serve(process.name, process.roles, &FAST).await;
    expect_outages(&mut server);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_our_processes_and_one_of_every_service_lose_and_double_nothing() {
    // `./dev nightly` sets more.
    let kills: u32 = std::env::var("ACUVIM_KILLS").ok().and_then(|k| k.parse().ok()).unwrap_or(12);
    let stack = Stack::own(3).await;
    let mut servers = Vec::new();
    for process in PROCESSES {
        servers.push(serve(&stack, process).await);
    }
    let load = Load::start(stack.mqtt, 6, Duration::from_millis(60));
    for kill in 0..kills {
        // Spread over the time of a start and a flush, the same in every run.
        let pause = 300 + (u64::from(kill) * 7919) % 900;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let place = kill as usize % PROCESSES.len();
        let old = servers.remove(place);
        old.kill();
        servers.insert(place, serve(&stack, PROCESSES[place]).await);
    }
    let acknowledged = load.acknowledged();
    let mut mosquitto_killed = None;
    for part in ["kafka-1", "kafka-2", "kafka-3", "mosquitto", "s3", "postgres"] {
        moved_on(&load).await;
        if part == "mosquitto" {
            mosquitto_killed = Some(Instant::now());
        }
        stack.services.kill(part);
        tokio::time::sleep(Duration::from_secs(1)).await;
        tokio::task::block_in_place(|| stack.services.again(&[part]));
    }
    moved_on(&load).await;
    println!("{acknowledged} acknowledged before the services were killed");
    let sent = load.stop().await;
    // Mosquitto saves its state every second, and may lose what it has acknowledged since, before we have
    // it. An acknowledgement may be read a moment after the kill.
    let lost = move |at: Instant| {
        mosquitto_killed.is_some_and(|kill| {
            at + Duration::from_secs(4) > kill && at < kill + Duration::from_secs(2)
        })
    };
    verify(&stack, &servers[2], &sent, lost).await;
    assert!(sent.len() > 1000, "the load ran");
    for server in servers {
        server.stop().await;
    }
}

/// Waits until more of the load is acknowledged.
async fn moved_on(load: &Load) {
    let (before, begun) = (load.acknowledged(), Instant::now());
    while load.acknowledged() < before + 100 {
        assert!(begun.elapsed() < PATIENCE, "the load is stuck");
        crate::harness::pause(begun).await;
    }
}
