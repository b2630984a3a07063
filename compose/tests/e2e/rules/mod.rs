//! Alerts, rules, late data, the ledger and dead letters, from the devices' and the users' side.

mod alerts;
mod backtest;
mod dead_letters;
mod devices;
mod kill;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use acuvim_simulator::mqtt::Connection;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, connect};

/// 2026-05-16T17:05:32Z, in milliseconds.
pub const T0: i64 = 1_778_951_132_000;

/// Short intervals, so that a test needs not wait long.
pub const QUICK: [&str; 5] = [
    "lake.flush_interval_ms=300",
    "lake.compaction_interval_ms=200",
    "lake.compaction_fan_in=2",
    "alerts.check_interval_seconds=1",
    "health_monitor.check_interval_seconds=1",
];

/// A telemetry payload with one voltage.
pub fn volts(ts_ms: i64, volts: f64) -> String {
    json!({"ts": ts_ms, "v1": volts}).to_string()
}

/// The body of an answer, which must have this status.
pub async fn body(answer: reqwest::Response, status: u16) -> Value {
    let found = answer.status().as_u16();
    let json = answer.json().await.unwrap_or(Value::Null);
    assert_eq!(found, status, "{json:#}");
    json
}

/// Replaces the default rules by one, and waits until the stream evaluates it.
pub async fn only_rule(server: &Server, rule: Value) -> Value {
    only_rule_at(server, server.mqtt, rule).await
}

/// The same for a server whose devices connect elsewhere.
pub async fn only_rule_at(server: &Server, mqtt: SocketAddr, rule: Value) -> Value {
    let rules = body(server.get("/api/rules").await, 200).await;
    for default in rules["items"].as_array().expect("rules") {
        let path = format!("/api/rules/{}", default["id"].as_str().expect("id"));
        assert_eq!(delete(server, &path).await, 204);
    }
    let made = body(server.post("/api/rules", &rule).await, 201).await;
    rules_in_force(server, mqtt).await;
    made
}

/// Waits until the stream evaluates every rule that was made before. The marker is a shadow rule of
/// its own for a device of its own: the stream reads all rules at once, so an alert of this one shows
/// that it knows the others. The device sends frequencies only, and of a month before `T0`, so that no
/// rule on voltages and no period of a test includes them.
pub async fn rules_in_force(server: &Server, mqtt: SocketAddr) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let probe = format!("{PROBE}{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let rule = json!({
        "name": probe, "alert_type": probe, "mode": "shadow", "when": "frequency_hz > 40",
        "scope": {"device_ids": [probe]}
    });
    body(server.post("/api/rules", &rule).await, 201).await;
    let device = Connection::open(&connect(mqtt, &probe)).await.expect("MQTT connection");
    let path = format!("/api/alerts?shadow=true&type={probe}");
    let begun = Instant::now();
    for n in 0.. {
        let reading = json!({"ts": T0 - 30 * 86_400_000 + n * 1000, "f": 50}).to_string();
        let topic = format!("acuvim/{probe}/telemetry");
        device.publish(&topic, reading, false).await.expect("ack");
        if body(server.get(&path).await, 200).await["total"] == 1 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the new rules are not evaluated");
        crate::harness::pause(begun).await;
    }
}

/// Prefix of the ids of devices that only serve as a marker.
pub const PROBE: &str = "probe_";

pub async fn delete(server: &Server, path: &str) -> u16 {
    let request = server.client.delete(format!("{}{path}", server.http));
    let answer = request.bearer_auth(server.token().await).send().await.expect("answer");
    answer.status().as_u16()
}

pub async fn put(server: &Server, path: &str, json: &Value) -> reqwest::Response {
    let request = server.client.put(format!("{}{path}", server.http)).json(json);
    request.bearer_auth(server.token().await).send().await.expect("answer")
}

/// Waits until a list of alerts is as wanted, and returns it.
pub async fn alerts(server: &Server, query: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let page = body(server.get(&format!("/api/alerts?limit=1000&{query}")).await, 200).await;
        let items = page["items"].as_array().expect("items").clone();
        if wanted(&items) {
            return items;
        }
        assert!(begun.elapsed() < PATIENCE, "{query}: {items:#?}");
        crate::harness::pause(begun).await;
    }
}

/// An episode of a device, in seconds from `T0`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Episode {
    pub device: i64,
    pub begun: i64,
    pub ended: Option<i64>,
}

/// A rule on one voltage, as the tests make it.
pub struct Limits {
    pub raise_above: f64,
    pub clear_below: f64,
    pub for_seconds: i64,
    pub clear_for_seconds: i64,
}

/// The episodes that a rule must find in a device's voltages, one every ten seconds.
pub fn expected(device: i64, volts: impl Iterator<Item = f64>, rule: &Limits) -> Vec<Episode> {
    let mut found = Vec::new();
    let (mut since, mut open, mut over): (Option<i64>, Option<i64>, Option<i64>) =
        (None, None, None);
    for (second, value) in (0_i64..).step_by(10).zip(volts) {
        match open {
            None if value > rule.raise_above => {
                let begun = *since.get_or_insert(second);
                if second - begun >= rule.for_seconds {
                    open = Some(begun);
                }
            }
            None => since = None,
            Some(begun) if value < rule.clear_below => {
                let end = *over.get_or_insert(second);
                if second - end >= rule.clear_for_seconds {
                    found.push(Episode { device, begun, ended: Some(end) });
                    (since, open, over) = (None, None, None);
                }
            }
            Some(_) => over = None,
        }
    }
    found.extend(open.map(|begun| Episode { device, begun, ended: None }));
    found
}

/// Alerts of devices that are named by a letter and a number, in the order of episodes.
pub fn episodes(alerts: &[Value]) -> Vec<Episode> {
    let second = |v: &Value| {
        let at: Option<chrono::DateTime<chrono::Utc>> = serde_json::from_value(v.clone()).ok();
        at.map(|at| (at.timestamp_millis() - T0) / 1000)
    };
    let episode = |alert: &Value| Episode {
        device: alert["device_id"].as_str().expect("text")[1..].parse().expect("a number"),
        begun: second(&alert["created_at"]).expect("a time"),
        ended: second(&alert["resolved_at"]),
    };
    let mut found: Vec<Episode> = alerts.iter().map(episode).collect();
    found.sort_unstable();
    found
}
