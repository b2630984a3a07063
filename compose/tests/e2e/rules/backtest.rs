//! A backtest finds the alerts that the stream has recorded.

use serde_json::{Value, json};

use super::{PROBE, QUICK, T0, alerts, body, delete, only_rule};
use crate::{fleet::until, harness::Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_over_a_day_equals_what_the_live_rule_recorded() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let rule = json!({
        "name": "r", "alert_type": "over", "when": "voltage_l1_v > 250",
        "clear_when": "voltage_l1_v < 245", "for_seconds": 120, "clear_for_seconds": 60
    });
    let rule = only_rule(&server, rule).await;
    // A day and a half of three devices, one reading a minute, in order.
    let mut wanted = 0;
    for (n, device) in (0_i64..).zip(["a", "b", "c"]) {
        let talk = server.device(device).await;
        let story = |minute: i64| match (minute / (17 + 5 * n)) % 3 {
            0 => 230.0,
            1 => 247.0 + ((minute * 7) % 5) as f64,
            _ => 258.0,
        };
        let lines: Vec<String> = (0..2160)
            .map(|minute| json!({"ts": T0 + minute * 60_000, "v1": story(minute)}).to_string())
            .collect();
        for some in lines.chunks(400) {
            let topic = format!("acuvim/{device}/telemetry");
            talk.publish(&topic, some.join("\n"), false).await.expect("ack");
        }
        wanted += lines.len();
    }
    let stored = format!("SELECT count(*) FROM telemetry WHERE device_id NOT LIKE '{PROBE}%'");
    server.wait_for(&stored, i64::try_from(wanted).expect("n")).await;
    // An episode begins in every third part of a device's pattern.
    let begin = |n: usize| (2160 - 2 * (17 + 5 * n)).div_ceil(3 * (17 + 5 * n));
    let episodes = (0..3).map(begin).sum::<usize>();
    let recorded = alerts(&server, "", |a| {
        let ended = a.iter().filter(|a| !a["resolved_at"].is_null()).count();
        // The last alert of a device may still be open, after the period of the backtest.
        a.len() == episodes && ended + 3 >= episodes
    });
    let recorded = recorded.await.len();
    let from = acuvim_wire::time::to_rfc3339((T0 + 6 * 3_600_000) * 1000);
    let to = acuvim_wire::time::to_rfc3339((T0 + 30 * 3_600_000) * 1000);
    let request = json!({"rule_id": rule["id"], "from": from, "to": to});
    let done = finished(&server, &request).await;
    let result = &done["result"];
    assert_eq!(done["state"], "done", "{done:#}");
    assert_eq!(result["devices"], 3);
    assert!(result["episodes"].as_i64().is_some_and(|n| n > 30), "{result:#}");
    let difference = &result["difference"];
    assert_eq!(
        (&difference["only_backtest"], &difference["only_recorded"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(difference["same"], result["episodes"]);
    println!(
        "{} of {recorded} episodes in the day, {} readings",
        difference["same"], result["readings"]
    );

    // Devices that a rule can't be evaluated for are named.
    let other = json!({
        "rule": {"name": "x", "alert_type": "x", "when": "voltage_l1_v > 1.2 * nominal_voltage_v"},
        "from": from, "to": to
    });
    let done = finished(&server, &other).await;
    assert_eq!(done["result"]["missing_settings"].as_array().map(Vec::len), Some(3));
    let started = body(server.post("/api/rules/backtest", &request).await, 202).await;
    let path = format!("/api/rules/backtest/{}", started["id"].as_str().expect("id"));
    assert_eq!(delete(&server, &path).await, 204);
    let ended = until(&server, &path, |b| b["state"] != "running").await;
    assert!(ended["state"] == "cancelled" || ended["state"] == "done");
    server.stop().await;
}

async fn finished(server: &Server, request: &Value) -> Value {
    let started = body(server.post("/api/rules/backtest", request).await, 202).await;
    let path = format!("/api/rules/backtest/{}", started["id"].as_str().expect("id"));
    until(server, &path, |b| b["state"] != "running").await
}
