//! Alerts, rules, late data, the ledger and dead letters, as devices and users meet them.

mod alerts;
mod backtest;
mod devices;
mod kill;
mod letters;

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};

/// 2026-05-16T17:05:32Z, in milliseconds.
pub const T0: i64 = 1_778_951_132_000;

/// Settings under which everything comes soon.
pub const QUICK: [&str; 5] = [
    "lake.flush_interval_ms=300",
    "lake.compaction_interval_ms=200",
    "lake.compaction_fan_in=2",
    "alerts.check_interval_seconds=1",
    "health_monitor.check_interval_seconds=1",
];

/// A reading of a voltage.
pub fn volts(ts_ms: i64, volts: f64) -> String {
    json!({"ts": ts_ms, "v1": volts}).to_string()
}

/// The answer's body, whose status must be this.
pub async fn body(answer: reqwest::Response, status: u16) -> Value {
    let found = answer.status().as_u16();
    let json = answer.json().await.unwrap_or(Value::Null);
    assert_eq!(found, status, "{json:#}");
    json
}

/// Makes a rule in place of the default ones.
pub async fn only_rule(server: &Server, rule: Value) -> Value {
    let rules = body(server.get("/api/rules").await, 200).await;
    for default in rules["items"].as_array().expect("rules") {
        let path = format!("/api/rules/{}", default["id"].as_str().expect("id"));
        assert_eq!(delete(server, &path).await, 204);
    }
    let made = body(server.post("/api/rules", &rule).await, 201).await;
    // The stream looks for new rules every second.
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    made
}

pub async fn delete(server: &Server, path: &str) -> u16 {
    let request = server.client.delete(format!("{}{path}", server.http));
    let answer = request.bearer_auth(server.token().await).send().await.expect("answer");
    answer.status().as_u16()
}

pub async fn put(server: &Server, path: &str, json: &Value) -> reqwest::Response {
    let request = server.client.put(format!("{}{path}", server.http)).json(json);
    request.bearer_auth(server.token().await).send().await.expect("answer")
}

/// Waits until a list of alerts is as wanted.
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
