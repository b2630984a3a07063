//! Episodes on real Kafka, while their partitions move from one processor to another.

use std::time::{Duration, Instant};

use acuvim_simulator::mqtt::Connection;
use serde_json::json;

use super::load::expect_outages;
use crate::{
    harness::{PATIENCE, connect},
    rules::{Episode, Limits, T0, alerts, episodes, expected, only_rule_at, volts},
    stack::Stack,
};

const SETTINGS: [&str; 3] = [
    "lake.flush_interval_ms=500",
    "lake.compaction_interval_ms=2000",
    "alerts.check_interval_seconds=2",
];

/// Such a process has followed a partition before it becomes its writer.
const BOTH: &str = "processor,query";

/// Above the limit for 90 s, then below it for 90 s, repeatedly; each device begins at another point.
fn story(device: i64, step: i64) -> f64 {
    match (step + 2 * device) % 18 {
        0..=8 => 255.0,
        _ => 230.0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_episode_is_lost_doubled_or_begun_anew_when_partitions_move() {
    let stack = Stack::shared().await;
    let ingest = stack.serve("ingest", "ingest", &SETTINGS).await;
    let mut query = stack.serve("query", "query", &SETTINGS).await;
    expect_outages(&mut query);
    let mut first = stack.serve("one", BOTH, &SETTINGS).await;
    expect_outages(&mut first);
    let rule = json!({
        "name": "r", "alert_type": "over", "when": "voltage_l1_v > 250", "for_seconds": 30,
        "clear_for_seconds": 20
    });
    only_rule_at(&query, stack.mqtt, rule).await;
    let (devices, steps) = (12_i64, 72_i64);
    let mut second = None;
    for step in 0..steps {
        let talk = Connection::open(&connect(stack.mqtt, "all")).await.expect("MQTT connection");
        for device in 0..devices {
            let topic = format!("acuvim/k{device}/telemetry");
            let reading = volts(T0 + step * 10_000, story(device, step));
            talk.publish(&topic, reading, false).await.expect("ack");
        }
        match step {
            // A second processor joins, the first is killed and restarted, and the second is stopped.
            12 => {
                let mut other = stack.serve("two", BOTH, &SETTINGS).await;
                expect_outages(&mut other);
                second = Some(other);
            }
            26 => {
                first.kill();
                let mut again = stack.serve("one", BOTH, &SETTINGS).await;
                expect_outages(&mut again);
                first = again;
            }
            44 => {
                if let Some(other) = second.take() {
                    other.stop().await;
                }
            }
            _ => tokio::time::sleep(Duration::from_millis(120)).await,
        }
    }
    let limits =
        Limits { raise_above: 250.0, clear_below: 250.0, for_seconds: 30, clear_for_seconds: 20 };
    let of = |device| expected(device, (0..steps).map(move |step| story(device, step)), &limits);
    let mut wanted: Vec<Episode> = (0..devices).flat_map(of).collect();
    wanted.sort_unstable();
    let total = wanted.len();
    let open = wanted.iter().filter(|w| w.ended.is_none()).count();
    let found = alerts(&query, "type=over", |a| {
        a.len() >= total && a.iter().filter(|a| a["resolved_at"].is_null()).count() == open
    })
    .await;
    assert_eq!(episodes(&found), wanted);
    let raised = "SELECT count(*) FROM alert_events WHERE event = 'raised' AND alert_type = 'over'";
    let begun = Instant::now();
    while query.number(raised).await < i64::try_from(total).expect("n") {
        assert!(begun.elapsed() < PATIENCE, "events are missing in the lake");
        crate::harness::pause(begun).await;
    }
    assert_eq!(query.number(raised).await, i64::try_from(total).expect("n"));
    let faults = alerts(&query, "type=ledger_unbalanced", |_| true).await;
    assert!(faults.is_empty(), "{faults:#?}");
    println!("{total} episodes of {devices} devices, {open} of them open");
    for server in [ingest, first, query] {
        server.stop().await;
    }
}
