//! Partitions that change hands: while flushes run, and while their owner is only paused.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    door::{Door, Mood},
    load::{Load, expect_outages, judge},
};
use crate::{
    harness::{PATIENCE, Server},
    stack::{Stack, readings_stored},
};

/// Flushes so seldom that there is always something to be overtaken with.
const SETTINGS: [&str; 2] = ["lake.flush_interval_ms=700", "lake.compaction_interval_ms=1000"];

async fn processor(stack: &Stack, name: &str, extra: &[&str]) -> Server {
    let settings = [&SETTINGS[..], extra].concat();
    let mut server = stack.serve(name, "processor", &settings).await;
    expect_outages(&mut server);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn rebalances_during_flushes_and_a_paused_owner_leave_no_gap_and_no_double() {
    let stack = Stack::start(1).await;
    let mut ingest = stack.serve("ingest", "ingest", &SETTINGS).await;
    let mut query = stack.serve("query", "query", &SETTINGS).await;
    expect_outages(&mut ingest);
    expect_outages(&mut query);
    let first = processor(&stack, "one", &[]).await;
    let load = Load::start(stack.mqtt, 8, Duration::from_millis(5));
    for round in 0..4 {
        let second = processor(&stack, "two", &[]).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        // In turn: an ordered end, and none.
        if round % 2 == 0 {
            second.stop().await;
        } else {
            second.kill();
        }
    }
    let second = processor(&stack, "two", &[]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    first.signal("-STOP");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = load.acknowledged();
    visible(&query, before).await;
    first.signal("-CONT");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let sent = load.stop().await;
    judge(&stack, &query, &sent, |_| false).await;
    for server in [ingest, first, second, query] {
        server.stop().await;
    }
}

/// Waits until so many readings are there: the other processor has taken over.
async fn visible(query: &Server, want: usize) {
    let begun = Instant::now();
    loop {
        let lake = query
            .ask(serde_json::json!({
                "query": "SELECT count(DISTINCT (device_id, ts)) FROM telemetry",
                "consistency": "lake"
            }))
            .await;
        // Every tenth is a repetition.
        if lake.rows[0][0].as_u64().is_some_and(|n| n as usize >= want * 8 / 10) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody took the partitions over");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for a line with these words.
async fn heard(lines: &mut Receiver<String>, words: &[&str]) {
    let wanted = async {
        loop {
            match lines.recv().await {
                Ok(line) if words.iter().all(|word| line.contains(word)) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("the server ended"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("no {words:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fence_and_dedup_a_paused_owner_stores_readings_twice() {
    let off = ["proof.fence=false", "proof.dedup=false"];
    let settings = [&SETTINGS[..], &off].concat();
    let mut stack = Stack::start(1).await;
    let ingest = stack.serve("ingest", "ingest", &[]).await;
    let query = stack.serve("query", "query", &settings).await;
    let mut second = processor(&stack, "two", &off).await;
    // The first one's way to the store is through a door.
    let (store, door) = (stack.s3.clone(), Door::open(&stack.s3).await);
    stack.s3 = format!("http://{}", door.address);
    let mut first = processor(&stack, "one", &off).await;
    stack.s3 = store;
    // The ledger's check is on: it may well see what the guards let through.
    for server in [&mut first, &mut second] {
        server.expect("the ledger does not balance");
    }
    let load = Load::start(stack.mqtt, 8, Duration::from_millis(2));
    // Behind a closed door it is in the middle of a flush: with readings that are nowhere else yet.
    heard(&mut first.stages(), &["\"telemetry\"", "flush committed"]).await;
    door.is(Mood::Holds);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut taken = second.stages();
    first.signal("-STOP");
    // Kafka gives its partitions away after 8 s.
    heard(&mut taken, &["takes the partition over"]).await;
    for _ in 0..2 {
        heard(&mut taken, &["\"telemetry\"", "flush committed"]).await;
    }
    first.signal("-CONT");
    door.is(Mood::Passes);
    let begun = Instant::now();
    let doubled = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stored = readings_stored(&query).await;
        let log: BTreeMap<_, usize> = stack.readings_in_log().await;
        let more = |(reading, times): &(&(String, i64), &usize)| {
            log.get(*reading).is_some_and(|in_log| *times > in_log)
        };
        let doubled = stored.iter().filter(more).count();
        if doubled > 0 {
            break doubled;
        }
        assert!(begun.elapsed() < PATIENCE, "the guards make no difference");
    };
    println!("{doubled} readings are stored more often than they are in the log");
    let _ = load.stop().await;
    ingest.stop().await;
    for server in [first, second, query] {
        server.kill();
    }
}
