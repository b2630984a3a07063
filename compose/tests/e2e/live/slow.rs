//! A hundred clients that hardly read: they lose readings and are told so, and nobody else is affected.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use acuvim_simulator::mqtt::Connection;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::client::{QUIET, Raw};
use crate::harness::{Server, resident_mb};

const SLOW: usize = 100;
const DEVICES: usize = 100;
const ROUNDS: i64 = 30;

/// The ping of the hub protocol. A client that sends nothing for a minute is disconnected.
const PING: &str = "{\"type\":6}\u{1e}";

/// A connection with small kernel buffers.
async fn slow(server: &Server) -> Raw {
    let mut raw = Raw::greeted(server).await;
    // No events of devices' states: on a busy machine the fleet falls silent and comes back again and
    // again, and a client that can't take those is disconnected before its time.
    let wanted = json!({"types": ["TelemetryReceived", "AlertCreated"]});
    let subscribe = json!({"type": 1, "target": "Subscribe", "arguments": [wanted]});
    raw.say(&format!("{subscribe}\u{1e}")).await;
    raw
}

/// Every reading of a meter, so that messages are large.
fn full(ts: i64) -> String {
    let data: serde_json::Map<String, Value> = acuvim_wire::reading::READINGS
        .iter()
        .map(|reading| (reading.name.to_owned(), json!(1.5)))
        .collect();
    json!({"ts": ts, "data": data}).to_string()
}

/// Sends readings of the whole fleet, round after round.
async fn load(talk: &Connection) {
    for round in 0..ROUNDS {
        let ts = chrono::Utc::now().timestamp_millis();
        for device in 0..DEVICES {
            let topic = format!("acuvim/device-{device}/telemetry");
            talk.publish(&topic, full(ts + round), false).await.expect("ack");
        }
    }
}

/// How long alerts take to reach a client that reads.
async fn latencies(server: &Server, good: &mut Raw, name: &str) -> Vec<Duration> {
    let talk = server.device(name).await;
    let mut all = Vec::new();
    for n in 0..40 {
        let ts = chrono::Utc::now().timestamp_millis();
        let kind = format!("{name}_{n}");
        let text = json!({"ts": ts, "type": kind}).to_string();
        talk.publish("acuvim/device-0/alerts", text, false).await.expect("ack");
        good.say(PING).await;
        let begun = Instant::now();
        while !good.hear().await.expect("an event").contains(&kind) {}
        all.push(begun.elapsed());
    }
    all.sort();
    all
}

/// The same while the fleet sends. Who reads says that it is there until the load has ended, or it would be
/// taken for gone on a busy machine.
async fn latencies_under_load(
    server: &Server,
    talk: &Connection,
    good: &mut Raw,
    name: &str,
) -> Vec<Duration> {
    let loaded = Cell::new(false);
    let sends = async {
        load(talk).await;
        loaded.set(true);
    };
    let hears = async {
        let all = latencies(server, good, name).await;
        while !loaded.get() {
            good.say(PING).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        all
    };
    tokio::join!(sends, hears).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_slow_clients_cost_the_others_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let set = ["live.queue_readings=50", "live.queue_events=300", "http.requests_per_address=0"];
    let server = Server::start(dir.path(), &set).await;
    let mut good = Raw::greeted(&server).await;
    let alerts = json!({"device_ids": ["device-0"], "types": ["AlertCreated"]});
    let subscribe =
        json!({"type": 1, "invocationId": "1", "target": "Subscribe", "arguments": [alerts]});
    good.say(&format!("{subscribe}\u{1e}")).await;
    good.hear().await;
    let talk = server.device("fleet").await;
    // The delay under load, before any client is slow.
    let alone = latencies_under_load(&server, &talk, &mut good, "alone").await;
    let mut all = Vec::new();
    for _ in 0..SLOW {
        all.push(slow(&server).await);
        // On a busy machine it takes minutes to connect all of them.
        good.say(PING).await;
        for raw in &mut all {
            raw.say(PING).await;
        }
    }
    let before = resident_mb(server.pid());
    let begun = Instant::now();
    // Each reads one byte a second, and one reads nothing.
    let trickle = async {
        loop {
            for raw in all.iter_mut().skip(1) {
                let _ = tokio::time::timeout(QUIET / 100, raw.socket.read_u8()).await;
            }
            for raw in &mut all {
                raw.say(PING).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let beside = tokio::select! {
        beside = latencies_under_load(&server, &talk, &mut good, "beside") => beside,
        () = trickle => unreachable!("it goes on for ever"),
    };
    let grown = resident_mb(server.pid()).saturating_sub(before);
    println!(
        "alerts alone {:?}/{:?}, beside {SLOW} slow ones and {} readings in {:?} {:?}/{:?}; {grown} MB more",
        alone[20],
        alone[39],
        DEVICES * ROUNDS as usize,
        begun.elapsed(),
        beside[20],
        beside[39]
    );
    assert!(beside[39] < Duration::from_secs(5), "{beside:?}");
    assert!(grown < 150, "{grown} MB more");

    // A client that reads again is told how much it missed.
    let mut first = all.swap_remove(0);
    let mut dropped = 0;
    while dropped == 0 {
        let text = first.hear().await.expect("it is still there");
        for record in text.split_terminator('\u{1e}').filter(|r| r.contains("EventsDropped")) {
            let record: Value = serde_json::from_str(record).expect("JSON");
            dropped += record["arguments"][0]["dropped"].as_u64().expect("a number");
        }
    }
    // Events that must not be dropped close the clients that can't take them, and only those.
    let mut heard = 0;
    for n in 0..400 {
        let text = json!({"ts": 1_795_459_200_000_i64 + n, "type": format!("flood_{n}")});
        talk.publish("acuvim/device-0/alerts", text.to_string(), false).await.expect("ack");
        // A client that keeps up receives all of them.
        while n % 50 == 49 && heard <= n {
            good.say(PING).await;
            let text = good.hear().await.expect("an event");
            heard += i64::try_from(text.matches("\"flood_").count()).expect("few");
        }
    }
    let metrics = server.get("/metrics").await.text().await.expect("metrics");
    let line = metrics.lines().find(|l| l.starts_with("acuvim_live_too_slow_total"));
    let closed: f64 = line.and_then(|l| l.split(' ').nth(1)?.parse().ok()).unwrap_or(0.0);
    assert!(closed >= 90.0, "{closed} were closed");
    server.stop().await;
}
