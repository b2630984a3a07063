//! An alert from its first reading to its evidence, and what users can do with it.

use acuvim_simulator::mqtt::Connection;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{QUICK, T0, alerts, body, delete, only_rule, put, rules_in_force, volts};
use crate::{
    fleet::until,
    harness::{Server, logged},
};

fn at(second: i64) -> String {
    let ms = T0 + second * 1000;
    acuvim_wire::time::to_rfc3339(ms * 1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_episode_from_its_first_reading_to_its_evidence() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let group = json!({"name": "north", "nominal_voltage_v": 230, "nominal_frequency_hz": 50});
    let group = body(server.post("/api/groups", &group).await, 201).await;
    let device = server.device("d").await;
    device.publish("acuvim/d/telemetry", volts(T0 - 60_000, 230.0), false).await.expect("ack");
    let state = until(&server, "/api/devices/d/status", |_| true).await;
    let missing = json!(["nominal_voltage_v", "nominal_frequency_hz"]);
    assert_eq!(state["missing_settings"], missing, "the default rules need them");
    let members = format!("/api/groups/{}/members", group["id"].as_str().expect("id"));
    body(server.post(&members, &json!({"add": ["d"]})).await, 200).await;
    let state = until(&server, "/api/devices/d/status", |_| true).await;
    assert_eq!(state["missing_settings"], json!([]));

    let bad = json!({"name": "x", "alert_type": "t", "when": "voltage_l1_v > nonsense"});
    let refused = body(server.post("/api/rules", &bad).await, 400).await;
    let fault = &refused["errors"][0];
    assert_eq!(fault["field"], "when", "{refused}");
    let said = fault["message"].as_str().expect("text");
    assert!(said.contains("line 1, column 16") && said.contains("nonsense"), "{said}");
    let rule = json!({
        "name": "Over", "alert_type": "over", "severity": "critical",
        "when": "voltage_l1_v > 1.10 * nominal_voltage_v",
        "clear_when": "voltage_l1_v < 1.08 * nominal_voltage_v",
        "for_seconds": 20, "clear_for_seconds": 10,
        "scope": {"group_ids": [group["id"]]},
        "message": "{device_id}: {value} V over {threshold}"
    });
    let rule = only_rule(&server, rule).await;
    let shadow = json!({
        "name": "Quiet", "alert_type": "quiet", "when": "voltage_l1_v > 0", "mode": "shadow"
    });
    body(server.post("/api/rules", &shadow).await, 201).await;
    rules_in_force(&server, server.mqtt).await;
    // 250 V is inside the hysteresis; the alert ends at the first reading below it.
    let story = [
        (0, 254.0),
        (10, 255.5),
        (20, 256.0),
        (30, 257.0),
        (40, 250.0),
        (50, 248.0),
        (60, 247.0),
        (70, 230.0),
        (80, 231.0),
    ];
    for (second, value) in story {
        let reading = volts(T0 + second * 1000, value);
        device.publish("acuvim/d/telemetry", reading, false).await.expect("ack");
    }
    let over = alerts(&server, "type=over", |a| a.len() == 1 && !a[0]["resolved_at"].is_null());
    let alert = over.await.swap_remove(0);
    assert_eq!(alert["created_at"], at(0).replace(".000Z", "Z"), "{alert:#}");
    assert_eq!(alert["raised_at"], at(20).replace(".000Z", "Z"));
    assert_eq!(alert["resolved_at"], at(50).replace(".000Z", "Z"), "its true end");
    assert_eq!((&alert["value"], &alert["origin"]), (&json!(256.0), &json!("rule")));
    assert!(alert["message"].as_str().expect("text").starts_with("d: 256 V over 253"));
    assert_eq!((&alert["rule_id"], &alert["rule_version"]), (&rule["id"], &json!(1)));
    assert_eq!(alert["backfilled"], json!(true), "it happened months ago");
    let quiet = alerts(&server, "shadow=true&type=quiet", |a| a.len() == 1).await;
    assert_eq!(quiet[0]["alert_type"], "quiet");
    assert_eq!(alerts(&server, "type=quiet", |_| true).await.len(), 0);

    let id = alert["id"].as_str().expect("id");
    let note = json!({"note": "known"});
    let seen = put(&server, &format!("/api/alerts/{id}/acknowledge"), &note).await;
    let seen = body(seen, 200).await;
    assert_eq!(
        (&seen["acknowledged_by"], &seen["acknowledge_note"]),
        (&json!("admin"), &json!("known"))
    );
    evidence_and_steps(&server, &device, id).await;

    let trace = server.get(&format!("/api/devices/d/telemetry/trace?ts={}", T0 + 20_000)).await;
    let trace = body(trace, 200).await;
    assert_eq!((&trace["ts"], &trace["committed"]), (&json!(at(20)), &json!(true)));
    let none = server.get(&format!("/api/devices/d/telemetry/trace?ts={}", T0 + 1)).await;
    body(none, 404).await;
    assert_eq!(
        delete(&server, &format!("/api/rules/{}", rule["id"].as_str().expect("id"))).await,
        204
    );
    server.stop().await;
}

/// The evidence of an acknowledged alert stays the same while its files are merged with that of a later
/// reading, and its steps are in the lake.
async fn evidence_and_steps(server: &Server, device: &Connection, id: &str) {
    server.wait_for("SELECT count(*) FROM alert_events WHERE event = 'acknowledged'", 1).await;
    for n in 0..3 {
        let mut lines = server.stages();
        let later = volts(T0 + 90_000 + n, 230.0);
        device.publish("acuvim/d/telemetry", later, false).await.expect("ack");
        logged(&mut lines, &["\"telemetry\"", "compaction committed"]).await;
        let evidence = server.get(&format!("/api/alerts/{id}/evidence")).await;
        let evidence = body(evidence, 200).await;
        let readings = evidence["readings"].as_array().expect("readings");
        assert_eq!(readings.len(), 7, "{evidence:#}");
        assert_eq!((&evidence["from"], &evidence["to"]), (&json!(at(0)), &json!(at(60))));
        assert_eq!(readings[2]["voltage_l1_v"], json!(256.0));
        assert!(readings[0]["offset"].is_i64() && evidence["lake_version"].is_i64());
    }
    let steps = format!("SELECT event, readings FROM alert_events WHERE alert_id = '{id}'");
    let steps = server.sql(&steps).await.rows;
    let names: Vec<_> = steps.iter().map(|row| row[0].as_str().expect("text")).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["acknowledged", "cleared", "raised"]);
    assert!(steps.iter().all(|row| row[1].as_str().is_some_and(|r| r.contains("0:"))), "{steps:?}");
    let table = "SELECT count(*) FROM alerts WHERE alert_type = 'over' AND acknowledged";
    assert_eq!(server.number(table).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_readings_amend_episodes_silently() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let rule = json!({"name": "r", "alert_type": "over", "when": "voltage_l1_v > 250"});
    only_rule(&server, rule).await;
    let device = server.device("d").await;
    let say = async |second: i64, value: f64| {
        let reading = volts(T0 + second * 1000, value);
        device.publish("acuvim/d/telemetry", reading, false).await.expect("ack");
    };
    for (second, value) in [(0, 230.0), (100, 260.0), (200, 260.0), (300, 230.0)] {
        say(second, value).await;
    }
    let one = alerts(&server, "", |a| a.len() == 1 && !a[0]["resolved_at"].is_null()).await;
    // Late readings from the SD card: it began earlier, and was two alerts.
    for (second, value) in [(150, 230.0), (60, 255.0), (250, 259.0)] {
        say(second, value).await;
    }
    let two = alerts(&server, "", |a| a.len() == 2).await;
    let times = |a: &Value| (a["created_at"].clone(), a["resolved_at"].clone());
    let short = |second| json!(at(second).replace(".000Z", "Z"));
    let mut found: Vec<_> = two.iter().map(times).collect();
    found.sort_by_key(|(begun, _)| begun.as_str().map(str::to_owned));
    assert_eq!(found, [(short(60), short(150)), (short(200), short(300))]);
    let kept = two.iter().find(|a| a["id"] == one[0]["id"]).expect("the one that was known");
    assert_eq!(kept["created_at"], short(60), "{kept:#}");
    assert!(two.iter().all(|a| a["backfilled"] == true));
    assert_eq!(server.number("SELECT count(*) FROM telemetry WHERE device_id = 'd'").await, 7);
    let latest = body(server.get("/api/devices/d/telemetry").await, 200).await;
    assert_eq!(latest["ts"], json!(at(300)), "latest never goes back");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_alerts_wills_silences_and_many_at_once() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    let device = server.device("d").await;
    let said = |ts: i64, state: &str| {
        json!({"ts": ts, "type": "overvoltage", "severity": "critical", "state": state,
            "message": "too much", "value": 256.1, "metadata": {"phase": "l1"}})
        .to_string()
    };
    let now = chrono::Utc::now().timestamp_millis();
    let silence = json!({
        "scope": {"device_ids": ["e"]}, "reason": "works",
        "until": (chrono::Utc::now() + chrono::TimeDelta::hours(1)).to_rfc3339()
    });
    let silence = body(server.post("/api/silences", &silence).await, 201).await;
    // The end arrives before the beginning.
    device.publish("acuvim/d/alerts", said(now, "cleared"), false).await.expect("ack");
    device.publish("acuvim/d/alerts", said(now - 5000, "raised"), false).await.expect("ack");
    device.publish("acuvim/d/alerts", said(now + 5000, "raised"), false).await.expect("ack");
    device.publish("acuvim/e/alerts", said(now, "raised"), false).await.expect("ack");
    let own = alerts(&server, "type=overvoltage", |a| a.len() == 3).await;
    let open: Vec<_> = own.iter().filter(|a| a["resolved_at"].is_null()).collect();
    assert_eq!(open.len(), 2);
    assert!(own.iter().all(|a| a["origin"] == "device" && a["severity"] == "critical"));
    assert!(own.iter().all(|a| a["silenced"] == (a["device_id"] == "e")), "{own:#?}");
    let end = format!("/api/silences/{}", silence["id"].as_str().expect("id"));
    assert_eq!(delete(&server, &end).await, 204);

    for device in ["f", "g"] {
        let talk = server.device(device).await;
        let beat = json!({"ts": now, "heartbeat_interval_s": 3600}).to_string();
        talk.publish(&format!("acuvim/{device}/heartbeat"), beat, false).await.expect("ack");
        until(&server, &format!("/api/devices/{device}"), |d| d["status"] == "online").await;
        let will = json!({"status": "offline", "reason": "lwt"}).to_string();
        talk.publish(&format!("acuvim/{device}/status"), will, false).await.expect("ack");
        until(&server, &format!("/api/devices/{device}"), |d| d["status"] == "offline").await;
    }
    let gone = alerts(&server, "type=offline&resolved=false", |a| a.len() == 2).await;
    assert_eq!(gone[0]["incident_id"], gone[1]["incident_id"], "one story");
    let summary = body(server.get("/api/dashboard/summary").await, 200).await;
    assert_eq!(summary["alerts"], json!({"open": 4, "unacknowledged": 4, "critical": 2}));
    let all = json!({"filter": {"alert_type": "offline"}, "note": "the line is down"});
    let seen = body(server.post("/api/alerts/acknowledge", &all).await, 200).await;
    assert_eq!(seen, json!({"acknowledged": 2}));
    let page = body(server.get("/api/devices/f/alerts?acknowledged=true").await, 200).await;
    assert_eq!(page["total"], 1);
    let brownout = |boot: i64, at: i64| {
        json!({"ts": at, "boot": boot, "reset_reason": "brownout", "uptime_ms": 1000}).to_string()
    };
    device.publish("acuvim/h/heartbeat", brownout(1, now), false).await.expect("ack");
    device.publish("acuvim/h/heartbeat", brownout(2, now + 1000), false).await.expect("ack");
    alerts(&server, "type=brownout", |a| a.len() == 1).await;
    device
        .publish("acuvim/i/telemetry", json!({"ts": now, "Vllavg": 1}).to_string(), false)
        .await
        .expect("ack");
    let unknown = alerts(&server, "type=no_known_readings", |a| a.len() == 1).await;
    assert!(unknown[0]["message"].as_str().expect("text").contains("Vllavg"));
    device.publish("acuvim/i/telemetry", volts(now + 1000, 230.0), false).await.expect("ack");
    alerts(&server, "type=no_known_readings&resolved=true", |a| a.len() == 1).await;
    server.wait_for("SELECT count(*) FROM heartbeats WHERE reset_reason = 'brownout'", 2).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_floods_does_not_delay_the_others_alerts() {
    let dir = tempfile::tempdir().expect("dir");
    let set = [&QUICK[..], &["mqtt.messages_per_client=100"]].concat();
    let server = Server::start(dir.path(), &set).await;
    let rule = json!({"name": "r", "alert_type": "over", "when": "voltage_l1_v > 250"});
    only_rule(&server, rule).await;
    let flood = server.device("loud").await;
    let (sent, flooded) = watch::channel(0_i64);
    let (stop, stopped) = watch::channel(false);
    let begun = std::time::Instant::now();
    let flooding = tokio::spawn(async move {
        while !*stopped.borrow() {
            let reading = volts(T0 + *sent.borrow(), 230.0);
            if flood.publish("acuvim/loud/telemetry", reading, false).await.is_ok() {
                sent.send_modify(|sent| *sent += 1);
            }
        }
    });
    // Beyond the burst of 100 that every client may send.
    flooded.clone().wait_for(|sent| *sent > 150).await.expect("the flood goes on");
    let calm = server.device("calm").await;

    calm.publish("acuvim/calm/telemetry", volts(T0, 260.0), false).await.expect("ack");
    alerts(&server, "device_id=calm", |a| a.len() == 1).await;
    assert!(!flooding.is_finished(), "it came while the flood went on");
    stop.send_replace(true);
    flooding.await.expect("flood");
    // A hundred at once, and a hundred a second from then on.
    let share = 100 * (2 + i64::try_from(begun.elapsed().as_secs()).expect("short"));
    let sent = *flooded.borrow();
    assert!((1..=share).contains(&sent), "{sent} are more than its share of {share}");
    server.stop().await;
}
