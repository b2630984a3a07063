//! An object store that refuses or delays every request for long.

use std::time::{Duration, Instant};

use super::{
    load::{Load, expect_outages, verify},
    proxy::{Mood, Proxy},
};
use crate::{
    harness::{PATIENCE, Server, resident_mb},
    stack::Stack,
};

/// Records that the tables may lag behind a growing log in normal operation on a busy machine: about ten
/// seconds of what the devices send.
const CAUGHT_UP: f64 = 5000.0;

/// Duration of each mood; `./dev nightly` sets 600 s.
fn seconds() -> Duration {
    let set = std::env::var("ACUVIM_OUTAGE_SECONDS").ok().and_then(|n| n.parse().ok());
    Duration::from_secs(set.unwrap_or(20))
}

async fn lag(server: &Server) -> f64 {
    let metrics = server.client.get(format!("{}/metrics", server.http)).send().await;
    let text = metrics.expect("an answer").text().await.expect("text");
    let lines = text.lines().filter(|line| line.starts_with("acuvim_lake_lag_records{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_or_dawdles_for_long_costs_freshness_and_nothing_else() {
    let mut stack = Stack::shared().await;
    let proxy = Proxy::open(&stack.s3).await;
    stack.s3 = format!("http://{}", proxy.address);
    let set = [
        "lake.flush_interval_ms=700",
        "lake.compaction_interval_ms=1500",
        "lake.rollup_interval_seconds=1",
        "alerts.check_interval_seconds=1",
        "lake.max_tail_mb=64",
        // A long run has more readings than an answer has rows by default.
        "sql.max_rows=10000000",
    ];
    let mut server = stack.serve("all", "ingest,processor,query", &set).await;
    expect_outages(&mut server);
    server.expect("the rollups failed; they are tried again");
    let load = Load::start(stack.mqtt, 4, Duration::from_millis(20));
    for mood in [Mood::Refuses, Mood::Waits(Duration::from_secs(5))] {
        let begun = Instant::now();
        while lag(&server).await > CAUGHT_UP || load.acknowledged() < 500 {
            assert!(begun.elapsed() < PATIENCE + seconds(), "all is well before");
            crate::harness::pause(begun).await;
        }
        let (before, acknowledged) = (resident_mb(server.pid()), load.acknowledged());
        proxy.is(mood);
        let (begun, mut most, mut behind) = (Instant::now(), before, 0.0_f64);
        while begun.elapsed() < seconds() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            most = resident_mb(server.pid()).max(most);
            behind = lag(&server).await.max(behind);
        }
        let taken = load.acknowledged() - acknowledged;
        println!("{mood:?}: {taken} taken, {behind} behind, {before} MB before, {most} at most");
        assert!(taken > 100, "ingest goes on");
        let least = match mood {
            // A commit takes two requests at least, one after the other.
            Mood::Waits(each) => 2.0 * each.as_secs_f64() / seconds().as_secs_f64(),
            _ => 0.25,
        };
        assert!(behind > taken as f64 * least, "it shows how far behind the tables are");
        // The tail is bounded, and unfinished flushes take memory too.
        assert!(most < before + 600, "memory is bounded: {most} MB");
        proxy.is(Mood::Passes);
    }
    println!("{} requests were refused", proxy.refused());
    assert!(proxy.refused() > 0);
    // Retries back off: a few requests a second.
    assert!(proxy.refused() < 50 * seconds().as_secs(), "{}", proxy.refused());
    let sent = load.stop().await;
    verify(&stack, &server, &sent, |_| false).await;
    server.stop().await;
}
