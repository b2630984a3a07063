//! Partitions that move to another processor during flushes, and while their owner is only paused. The
//! tests of `lakehouse` show what happens without the fence.

use std::time::{Duration, Instant};

use super::load::{Load, expect_outages, verify};
use crate::{
    harness::{PATIENCE, Server, logged},
    stack::Stack,
};

/// Flushes are rare enough that an owner always has rows that are not flushed when it is overtaken.
const SETTINGS: [&str; 2] = ["lake.flush_interval_ms=700", "lake.compaction_interval_ms=1000"];

async fn processor(stack: &Stack, name: &str) -> Server {
    let mut server = stack.serve(name, "processor", &SETTINGS).await;
    expect_outages(&mut server);
    server
}

/// Waits until a processor has partitions and has flushed rows of them.
async fn owns_and_flushes(server: &Server) {
    let mut lines = server.stages();
    logged(&mut lines, &["\"telemetry\"", "flush committed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rebalances_during_flushes_and_a_paused_owner_leave_no_gap_and_no_double() {
    let stack = Stack::shared().await;
    let mut ingest = stack.serve("ingest", "ingest", &SETTINGS).await;
    let mut query = stack.serve("query", "query", &SETTINGS).await;
    expect_outages(&mut ingest);
    expect_outages(&mut query);
    let first = processor(&stack, "one").await;
    let load = Load::start(stack.mqtt, 6, Duration::from_millis(20));
    for round in 0..4 {
        let second = processor(&stack, "two").await;
        owns_and_flushes(&second).await;
        // Alternates between an ordered end and a kill.
        if round % 2 == 0 {
            second.stop().await;
        } else {
            second.kill();
        }
    }
    let second = processor(&stack, "two").await;
    owns_and_flushes(&second).await;
    owns_and_flushes(&first).await;
    let (mut taken, mut back) = (second.stages(), first.stages());
    // The load continues, so it has rows that are not flushed.
    first.signal("-STOP");
    logged(&mut taken, &["takes the partition over"]).await;
    visible(&query, load.acknowledged()).await;
    first.signal("-CONT");
    // It notices that its partitions were reassigned, and gets some of them again.
    logged(&mut back, &["takes the partition over"]).await;
    owns_and_flushes(&first).await;
    let sent = load.stop().await;
    verify(&stack, &query, &sent, |_| false).await;
    for server in [ingest, first, second, query] {
        server.stop().await;
    }
}

/// Waits until the lake has this many readings, which shows that the other processor has taken over.
async fn visible(query: &Server, want: usize) {
    let begun = Instant::now();
    loop {
        let lake = query
            .ask(serde_json::json!({
                "query": "SELECT count(DISTINCT (device_id, ts)) FROM telemetry",
                "consistency": "lake"
            }))
            .await;
        // A tenth of the messages are repetitions.
        if lake.rows[0][0].as_u64().is_some_and(|n| n as usize >= want * 8 / 10) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody took the partitions over");
        crate::harness::pause(begun).await;
    }
}
