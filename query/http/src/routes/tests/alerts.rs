//! Alerts, rules, silences and notifications.

use acuvim_control::SystemCondition;
use acuvim_model::Role;
use acuvim_wire::payload::Severity;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::testing::Server;

#[tokio::test]
async fn an_alert_is_acknowledged_once_and_ends_when_somebody_says_so() {
    let server = Server::new().await;
    server.device("d1").await;
    let id = server.alert("d1", "overvoltage").await;
    let path = |verb: &str| format!("/api/alerts/{id}/{verb}");
    let note = json!({"note": "on my way"});
    let seen = server.put(&server.operator, &path("acknowledge"), note).await.json();
    assert_eq!(
        (&seen["acknowledged"], &seen["acknowledge_note"]),
        (&json!(true), &json!("on my way"))
    );
    let again =
        server.put(&server.admin, &path("acknowledge"), json!({"note": "me too"})).await.json();
    assert_eq!(again["acknowledge_note"], "on my way", "the first stays");
    let long = json!({"note": "x".repeat(1001)});
    assert_eq!(server.put(&server.operator, &path("acknowledge"), long).await.field(), "note");
    let over = server.ask(&server.operator, "PUT", &path("resolve"), None).await.json();
    assert_eq!(over["resolved_by"], "test");
    assert_eq!(server.get(&server.viewer, "/api/alerts?resolved=false").await.json()["total"], 0);
    assert_eq!(server.get(&server.viewer, "/api/alerts?resolved=true").await.json()["total"], 1);
}

#[tokio::test]
async fn lists_of_alerts_are_filtered_and_walked() {
    let server = Server::new().await;
    for device in ["d1", "d2"] {
        server.device(device).await;
        for kind in ["overvoltage", "hot"] {
            server.alert(device, kind).await;
        }
    }
    let total = async |query: &str| {
        server.get(&server.viewer, &format!("/api/alerts?{query}")).await.json()["total"].clone()
    };
    for (query, want) in [
        ("", 4),
        ("device_id=d1", 2),
        ("type=hot", 2),
        ("severity=critical", 4),
        ("severity=info", 0),
        ("acknowledged=true", 0),
        ("shadow=true", 0),
        ("to=2020-01-01T00:00:00Z", 0),
        ("from=2020-01-01T00:00:00Z", 4),
    ] {
        assert_eq!(total(query).await, want, "{query}");
    }
    let (mut seen, mut path) = (std::collections::HashSet::new(), "/api/alerts?limit=3".to_owned());
    for _ in 0..4 {
        let page = server.get(&server.viewer, &path).await.json();
        for alert in page["items"].as_array().expect("items") {
            assert!(seen.insert(alert["id"].to_string()), "twice");
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/alerts?limit=3&cursor={cursor}");
    }
    assert_eq!(seen.len(), 4);
    let of_device = server.get(&server.viewer, "/api/devices/d1/alerts?type=hot").await.json();
    assert_eq!(of_device["total"], 1);
    let twice = server.get(&server.viewer, "/api/devices/d1/alerts?device_id=d2").await;
    assert_eq!(twice.field(), "device_id");
    for (query, field) in [
        ("from=x", "from"),
        ("to=x", "to"),
        ("cursor=x", "cursor"),
        ("severity=x", "severity"),
        ("resolved=x", "resolved"),
    ] {
        let answer = server.get(&server.viewer, &format!("/api/alerts?{query}")).await;
        assert_eq!(answer.field(), field, "{query}");
    }
}

#[tokio::test]
async fn many_alerts_are_acknowledged_by_ids_or_by_a_filter_and_only_those_that_are_seen() {
    let server = Server::new().await;
    server.device("mine").await;
    server.device("other").await;
    let (mine, other) = (server.alert("mine", "hot").await, server.alert("other", "hot").await);
    let many =
        async |key: &str, body: Value| server.post(key, "/api/alerts/acknowledge", body).await;
    assert_eq!(many(&server.operator, json!({})).await.field(), "ids");
    assert_eq!(many(&server.operator, json!({"ids": [mine], "filter": {}})).await.field(), "ids");
    let too_many = vec![Uuid::nil(); 1001];
    assert_eq!(many(&server.operator, json!({"ids": too_many})).await.field(), "ids");
    let scoped = server.scoped(Role::Operator, &["mine"]).await;
    let done = many(&scoped, json!({"ids": [mine, other]})).await.json();
    assert_eq!(done["acknowledged"], 1);
    let rest = server.get(&server.viewer, "/api/alerts?acknowledged=false").await.json();
    assert_eq!(rest["items"][0]["id"], other.as_str());
    assert_eq!(many(&scoped, json!({"filter": {}})).await.json()["acknowledged"], 0);
    assert_eq!(many(&server.operator, json!({"filter": {}})).await.json()["acknowledged"], 1);
    for (path, body) in [("acknowledge", Some(json!({}))), ("resolve", None)] {
        server.ask(&scoped, "PUT", &format!("/api/alerts/{other}/{path}"), body).await.problem(404);
    }
    for path in ["", "/evidence"] {
        server.get(&scoped, &format!("/api/alerts/{other}{path}")).await.problem(404);
    }
}

#[tokio::test]
async fn evidence_is_the_readings_from_an_alerts_beginning() {
    let server = Server::new().await;
    server.device("d1").await;
    let id = server.alert("d1", "hot").await;
    let later = (Utc::now() + TimeDelta::seconds(1)).to_rfc3339();
    server.telemetry("d1", &json!({"ts": "2026-05-01T00:00:00Z", "voltage_l1_v": 229}).to_string());
    server.telemetry("d1", &json!({"ts": later, "voltage_l1_v": 230}).to_string());
    let evidence = server.get(&server.viewer, &format!("/api/alerts/{id}/evidence")).await.json();
    let readings = evidence["readings"].as_array().expect("readings");
    assert_eq!((readings.len(), &evidence["truncated"]), (1, &json!(false)));
    let fault = SystemCondition {
        alert_type: "disk_low",
        subject: "data".into(),
        severity: Severity::Critical,
        message: "the disk is full".into(),
        metadata: json!({}),
    };
    server.control.system_faults(&[fault], Utc::now()).await.expect("control answers");
    let listed = server.get(&server.viewer, "/api/alerts?type=disk_low").await.json();
    let id = listed["items"][0]["id"].as_str().expect("an alert");
    server.get(&server.viewer, &format!("/api/alerts/{id}/evidence")).await.problem(422);
}

fn rule(change: &Value) -> Value {
    let mut rule = json!({"name": "high", "alert_type": "high", "when": "voltage_l1_v > 250"});
    for (key, value) in change.as_object().expect("an object") {
        rule[key] = value.clone();
    }
    rule
}

#[tokio::test]
async fn a_rule_is_compiled_before_it_is_stored() {
    let server = Server::new().await;
    for (change, field) in [
        (json!({"when": "voltage_l1_v >"}), "when"),
        (json!({"when": "no_such_column > 1"}), "when"),
        (json!({"when": "voltage_l1_v"}), "when"),
        (json!({"clear_when": "1 +"}), "clear_when"),
        (json!({"when": "voltage_l1_v > (SELECT 1)"}), "when"),
        (json!({"flap_count": 1}), "flap_count"),
        (json!({"mode": "loud"}), "mode"),
    ] {
        let answer = server.post(&server.operator, "/api/rules", rule(&change)).await;
        assert_eq!(answer.field(), field, "{change}");
    }
    assert_eq!(server.get(&server.viewer, "/api/rules").await.json()["total"], 0);
}

#[tokio::test]
async fn a_change_of_a_rule_is_its_next_version() {
    let server = Server::new().await;
    let made = server.post(&server.operator, "/api/rules", rule(&json!({}))).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let path = format!("/api/rules/{}", made["id"].as_str().expect("an id"));
    server.post(&server.operator, "/api/rules", rule(&json!({}))).await.problem(409);
    let patch = json!({"for_seconds": 60, "scope": {"tags": ["roof"]}});
    let patched = server.patch(&server.operator, &path, patch).await.json();
    assert_eq!((&patched["version"], &patched["when"]), (&json!(2), &made["when"]));
    assert_eq!(patched["scope"]["tags"], json!(["roof"]));
    let mut whole = patched.clone();
    whole["for_seconds"] = json!(30);
    assert_eq!(server.put(&server.operator, &path, whole).await.json()["version"], 3);
    let bad = json!({"when": "voltage_l1_v >"});
    assert_eq!(server.patch(&server.operator, &path, bad).await.field(), "when");
    assert_eq!(
        server.patch(&server.operator, &path, json!({"version": 9})).await.field(),
        "version"
    );
    assert_eq!(
        server.get(&server.viewer, &path).await.json()["version"],
        3,
        "a fault changes nothing"
    );
    assert_eq!(server.delete(&server.operator, &path).await.status, 204);
    server.delete(&server.operator, &path).await.problem(404);
}

#[tokio::test]
async fn a_rule_for_others_devices_is_not_shown_and_one_for_all_is() {
    let server = Server::new().await;
    server.device("mine").await;
    let make = async |name: &str, scope: Value| {
        let body = rule(&json!({"name": name, "scope": scope}));
        server.post(&server.operator, "/api/rules", body).await.json()["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let theirs = make("theirs", json!({"device_ids": ["other"]})).await;
    let both = make("both", json!({"device_ids": ["other", "mine"]})).await;
    make("all", json!({})).await;
    let scoped = server.scoped(Role::Viewer, &["mine"]).await;
    let listed = server.get(&scoped, "/api/rules").await;
    assert_eq!(listed.json()["total"], 2);
    assert!(!listed.text().contains("other"), "{}", listed.text());
    server.get(&scoped, &format!("/api/rules/{theirs}")).await.problem(404);
    let shown = server.get(&scoped, &format!("/api/rules/{both}")).await.json();
    assert_eq!(shown["scope"]["device_ids"], json!(["mine"]));
    let scoped = server.scoped(Role::Operator, &["mine"]).await;
    let backtest =
        json!({"rule_id": theirs, "from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z"});
    server.post(&scoped, "/api/rules/backtest", backtest).await.problem(404);
}

#[tokio::test]
async fn a_backtest_has_a_range_of_a_year_at_most_and_belongs_to_whoever_started_it() {
    let server = Server::new().await;
    let start = async |from: &str, to: &str| {
        let body = json!({"rule": rule(&json!({})), "from": from, "to": to});
        server.post(&server.operator, "/api/rules/backtest", body).await
    };
    for (from, to) in [
        ("2026-05-02T00:00:00Z", "2026-05-01T00:00:00Z"),
        ("2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z"),
        ("2025-01-01T00:00:00Z", "2026-01-02T00:00:01Z"),
        ("2025-01-01T00:00:00Z", "2026-01-02T23:59:59Z"),
    ] {
        assert_eq!(start(from, to).await.field(), "to", "{from} to {to}");
    }
    let neither = json!({"from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z"});
    assert_eq!(server.post(&server.operator, "/api/rules/backtest", neither).await.field(), "rule");
    let started = start("2025-01-01T00:00:00Z", "2026-01-02T00:00:00Z").await;
    assert_eq!(started.status, 202, "366 days");
    let path = format!("/api/rules/backtest/{}", started.json()["id"].as_str().expect("an id"));
    let none = server.get(&server.admin, &path).await.problem(404);
    assert_eq!(none, server.get(&server.admin, "/api/rules/backtest/x").await.problem(404));
    server.delete(&server.admin, &path).await.problem(404);
    assert_eq!(server.get(&server.operator, &path).await.status, 200);
    assert_eq!(server.delete(&server.operator, &path).await.status, 204);
}

#[tokio::test]
async fn a_backtest_finds_what_the_stored_readings_would_have_raised() {
    let server = Server::new().await;
    server.device("d1").await;
    server.device("d2").await;
    let begun = Utc::now() - TimeDelta::minutes(10);
    for (device, volts) in [("d1", [230, 260, 260, 230]), ("d2", [230, 230, 230, 230])] {
        for (n, volts) in (0..).zip(volts) {
            let ts = (begun + TimeDelta::seconds(10 * n)).to_rfc3339();
            server.telemetry(device, &json!({"ts": ts, "voltage_l1_v": volts}).to_string());
        }
    }
    let run = async |key: &str| {
        let body = json!({
            "rule": rule(&json!({})), "from": begun - TimeDelta::hours(1), "to": begun + TimeDelta::hours(1),
        });
        let started = server.post(key, "/api/rules/backtest", body).await.json();
        let path = format!("/api/rules/backtest/{}", started["id"].as_str().expect("an id"));
        loop {
            let backtest = server.get(key, &path).await.json();
            if backtest["state"] != "running" {
                return backtest;
            }
            tokio::task::yield_now().await;
        }
    };
    let done = run(&server.operator).await;
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!((&done["progress"], &done["result"]["episodes"]), (&json!(1.0), &json!(1)));
    assert_eq!(done["result"]["by_device"][0]["device_id"], "d1");
    assert_eq!(done["result"]["by_device"][0]["seconds_in_alarm"], 20.0);
    let scoped = server.scoped(Role::Operator, &["d2"]).await;
    assert_eq!(run(&scoped).await["result"]["episodes"], 0, "of the devices that it sees");
    server.status.lock().expect("a status").not_hot = Some("the tail is being read".to_owned());
    let failed = run(&server.operator).await;
    assert_eq!(
        (&failed["state"], &failed["error"]),
        (&json!("failed"), &json!("the tail is being read"))
    );
}

#[tokio::test]
async fn a_silence_is_made_shown_and_ended() {
    let server = Server::new().await;
    server.device("mine").await;
    let until = Utc::now() + TimeDelta::hours(1);
    let body = json!({"reason": "maintenance", "until": until, "scope": {"device_ids": ["other"]}});
    let made = server.post(&server.operator, "/api/silences", body).await;
    assert_eq!(made.status, 201);
    assert_eq!(server.get(&server.viewer, "/api/silences").await.json()["total"], 1);
    let scoped = server.scoped(Role::Viewer, &["mine"]).await;
    assert_eq!(server.get(&scoped, "/api/silences").await.json()["total"], 0);
    let past = json!({"reason": "x", "until": "2020-01-01T00:00:00Z"});
    assert_eq!(server.post(&server.operator, "/api/silences", past).await.field(), "until");
    let path = format!("/api/silences/{}", made.json()["id"].as_str().expect("an id"));
    assert_eq!(server.delete(&server.operator, &path).await.status, 204);
    server.delete(&server.operator, &path).await.problem(404);
    assert_eq!(server.get(&server.viewer, "/api/silences").await.json()["total"], 0);
}

#[tokio::test]
async fn a_webhooks_secret_is_shown_once_and_private_hosts_are_refused() {
    let server = Server::new().await;
    let hook = |url: &str| json!({"name": "ops", "kind": "webhook", "url": url});
    let path = "/api/notifications";
    let private = server.post(&server.admin, path, hook("http://10.0.0.1/x")).await;
    assert_eq!(private.field(), "url");
    let made = server.post(&server.admin, path, hook("https://hooks.example/x")).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let secret = made["secret"].as_str().expect("a secret");
    server.post(&server.admin, path, hook("https://hooks.example/y")).await.problem(409);
    let one = format!("{path}/{}", made["id"].as_str().expect("an id"));
    for shown in [path, one.as_str(), "/api/audit"] {
        let shown = server.get(&server.admin, shown).await;
        assert_eq!(shown.status, 200);
        assert!(!shown.text().contains(secret));
    }
    assert_eq!(server.get(&server.admin, &format!("{one}/deliveries")).await.json()["total"], 0);
    assert_eq!(server.delete(&server.admin, &one).await.status, 204);
    for gone in [one.clone(), format!("{one}/deliveries")] {
        server.get(&server.admin, &gone).await.problem(404);
    }
}

#[tokio::test]
async fn the_dashboard_counts_what_the_caller_sees() {
    let server = Server::new().await;
    server.device("mine").await;
    server.device("other").await;
    server.alert("other", "hot").await;
    let all = server.get(&server.viewer, "/api/dashboard/summary").await.json();
    assert_eq!(
        (&all["total"], &all["offline"], &all["alerts"]["open"]),
        (&json!(2), &json!(2), &json!(1))
    );
    let scoped = server.scoped(Role::Viewer, &["mine"]).await;
    let mine = server.get(&scoped, "/api/dashboard/summary").await.json();
    assert_eq!((&mine["total"], &mine["alerts"]["open"]), (&json!(1), &json!(0)));
}
