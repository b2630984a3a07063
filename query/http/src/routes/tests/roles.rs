//! What each role may do, and what a scope hides.

use acuvim_model::Role::{self, Admin, Operator};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::testing::Server;

const NIL: Uuid = Uuid::nil();

/// A request with the least role that may make it.
struct Case {
    method: &'static str,
    path: String,
    body: Option<Value>,
    least: Role,
    /// Whether it takes a caller without a scope.
    all: bool,
}

fn case(request: &'static str, body: Value, least: Role, all: bool) -> Case {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let body = (!body.is_null()).then_some(body);
    Case { method, path: path.replace("{id}", &NIL.to_string()), body, least, all }
}

fn cases() -> Vec<Case> {
    let rule = || json!({"name": "r", "alert_type": "high", "when": "voltage_l1_v > 250"});
    let silence = json!({"reason": "x", "until": chrono::Utc::now() + chrono::TimeDelta::hours(1)});
    let backtest =
        json!({"rule": rule(), "from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z"});
    let hook = || json!({"name": "n", "kind": "webhook", "url": "https://hooks.example"});
    let ping = || json!({"command": "ping"});
    vec![
        case(
            "POST /api/auth/register",
            json!({"username": "u", "password": "correct horse", "role": "Viewer"}),
            Admin,
            true,
        ),
        case("GET /api/users", Value::Null, Admin, true),
        case("GET /api/users/{id}", Value::Null, Admin, true),
        case("PUT /api/users/{id}", json!({"role": "Viewer"}), Admin, true),
        case("DELETE /api/users/{id}", Value::Null, Admin, true),
        case("GET /api/audit", Value::Null, Admin, true),
        case("GET /api/keys", Value::Null, Admin, true),
        case("POST /api/keys", json!({"name": "k", "role": "Admin"}), Admin, true),
        case("DELETE /api/keys/{id}", Value::Null, Admin, true),
        case("POST /api/devices", json!({"device_id": "new"}), Admin, true),
        case("PUT /api/devices/none", json!({}), Operator, false),
        case("PATCH /api/devices/none", json!({}), Operator, false),
        case("PATCH /api/devices/none", json!({"enabled": false}), Admin, false),
        case("PUT /api/devices/none", json!({"enabled": true}), Admin, false),
        case("DELETE /api/devices/none", Value::Null, Admin, false),
        case("POST /api/devices/none/replace", json!({"new_device_id": "new2"}), Admin, false),
        case("POST /api/devices/none/credentials", Value::Null, Admin, false),
        case("DELETE /api/devices/none/credentials", Value::Null, Admin, false),
        case("POST /api/devices/none/command", ping(), Operator, false),
        case("POST /api/devices/none/command", json!({"command": "factory_reset"}), Admin, false),
        case("POST /api/devices/none/command", json!({"command": "x", "raw": true}), Admin, false),
        case(
            "POST /api/devices/none/config",
            json!({"section": "telemetry", "values": {"interval_s": 10}}),
            Operator,
            false,
        ),
        case("GET /api/devices/none/config/wifi/scan", Value::Null, Operator, false),
        case("POST /api/groups", json!({"name": "g"}), Operator, true),
        case("PUT /api/groups/{id}", json!({"name": "g"}), Operator, false),
        case("PATCH /api/groups/{id}", json!({"name": "g"}), Operator, false),
        case("DELETE /api/groups/{id}", Value::Null, Operator, true),
        case("POST /api/groups/{id}/members", json!({}), Operator, false),
        case("POST /api/groups/{id}/command", ping(), Operator, false),
        case("POST /api/groups/{id}/deploy", json!({"version": "1.2.0"}), Operator, false),
        case("PUT /api/alerts/{id}/acknowledge", json!({}), Operator, false),
        case("POST /api/alerts/acknowledge", json!({"ids": [NIL]}), Operator, false),
        case("PUT /api/alerts/{id}/resolve", Value::Null, Operator, false),
        case("POST /api/rules", rule(), Operator, true),
        case("PUT /api/rules/{id}", rule(), Operator, true),
        case("PATCH /api/rules/{id}", json!({}), Operator, true),
        case("DELETE /api/rules/{id}", Value::Null, Operator, true),
        case("POST /api/rules/backtest", backtest, Operator, false),
        case("DELETE /api/rules/backtest/{id}", Value::Null, Operator, false),
        case("POST /api/silences", silence, Operator, true),
        case("DELETE /api/silences/{id}", Value::Null, Operator, true),
        case("POST /api/dead-letters/replay", json!({"reason": "empty"}), Operator, false),
        case("GET /api/notifications", Value::Null, Admin, true),
        case("POST /api/notifications", hook(), Admin, true),
        case("GET /api/notifications/{id}", Value::Null, Admin, true),
        case("DELETE /api/notifications/{id}", Value::Null, Admin, true),
        case("POST /api/notifications/{id}/test", Value::Null, Admin, true),
        case("GET /api/notifications/{id}/deliveries", Value::Null, Admin, true),
        case("POST /api/firmware", Value::Null, Operator, true),
        case("PUT /api/firmware/1.2.0", json!({}), Operator, true),
        case("DELETE /api/firmware/1.2.0", Value::Null, Admin, true),
        case("POST /api/firmware/deploy", json!({"version": "1.2.0", "tag": "t"}), Operator, false),
        case("POST /api/firmware/rollouts/{id}/pause", Value::Null, Operator, false),
        case("POST /api/firmware/rollouts/{id}/abort", Value::Null, Operator, false),
        case("POST /api/firmware/rollouts/{id}/resume", Value::Null, Operator, false),
        case("POST /api/firmware/rollouts/{id}/retry", Value::Null, Operator, false),
        case("POST /api/import", Value::Null, Admin, true),
        case("POST /api/devices/import", Value::Null, Admin, true),
    ]
}

async fn status(server: &Server, key: &str, case: &Case) -> u16 {
    server.ask(key, case.method, &case.path, case.body.clone()).await.status
}

#[tokio::test]
async fn a_role_below_the_least_is_refused_and_that_role_is_not() {
    let server = Server::new().await;
    for case in cases() {
        let of = [
            (Role::Viewer, &server.viewer),
            (Role::Operator, &server.operator),
            (Role::Admin, &server.admin),
        ];
        for (role, key) in of {
            let status = status(&server, key, &case).await;
            let shown = format!("{role:?}: {} {} is {status}", case.method, case.path);
            assert_eq!(status == 403, role < case.least, "{shown}");
            assert!(status != 401 && status < 500, "{shown}");
        }
    }
}

#[tokio::test]
async fn every_route_that_changes_something_is_in_these_tests() {
    let cases: Vec<(String, String)> = cases()
        .iter()
        .map(|case| (case.method.to_lowercase(), case.path.replace(&NIL.to_string(), "*")))
        .collect();
    // Of these everybody may make use who is logged in, and of the first three also who is not.
    let free = [
        "/api/auth/login",
        "/api/auth/refresh",
        "/api/auth/logout",
        "/api/auth/password",
        "/api/sql",
        "/hubs/devices",
        "/hubs/devices/negotiate",
    ];
    let known = |method: &str, path: &str| {
        let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let wanted = parts(path);
        cases.iter().any(|(of, path)| {
            let path = parts(path);
            of == method
                && path.len() == wanted.len()
                && wanted.iter().zip(&path).all(|(a, b)| a == b || a.starts_with('{'))
        })
    };
    for route in super::routes() {
        if route.method != "get" && !free.contains(&route.path.as_str()) {
            assert!(known(route.method, &route.path), "{} {}", route.method, route.path);
        }
    }
}

#[tokio::test]
async fn what_concerns_every_device_takes_a_caller_without_a_scope() {
    let server = Server::new().await;
    server.device("mine").await;
    let scoped = server.scoped(Role::Admin, &["mine"]).await;
    for case in cases() {
        let status = status(&server, &scoped, &case).await;
        assert_eq!(status == 403, case.all, "{} {} is {status}", case.method, case.path);
    }
}

#[tokio::test]
async fn a_device_outside_of_the_scope_is_as_if_it_did_not_exist() {
    let server = Server::new().await;
    server.device("mine").await;
    server.device("other").await;
    let ts = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    server.telemetry("other", &format!("{{\"ts\":\"{ts}\",\"voltage_l1_v\":230}}"));
    let scoped = server.scoped(Role::Admin, &["mine"]).await;
    for path in [
        "",
        "/status",
        "/telemetry",
        "/telemetry/history",
        "/telemetry/export",
        "/commands",
        "/commands/answers",
        "/config",
        "/config/history",
        "/config/wifi/scan",
        "/alerts",
        "/completeness",
    ] {
        let answer = server.get(&scoped, &format!("/api/devices/other{path}")).await;
        let none = server.get(&scoped, &format!("/api/devices/none{path}")).await;
        assert_eq!(answer.problem(404), none.problem(404), "{path}");
    }
    let trace = format!("/api/devices/other/telemetry/trace?ts={ts}");
    server.get(&scoped, &trace).await.problem(404);
    assert_eq!(server.get(&server.admin, &trace).await.json()["device_id"], "other");
    for (method, path, body) in [
        ("PATCH", "", Some(json!({"name": "x"}))),
        ("PUT", "", Some(json!({"name": "x"}))),
        ("DELETE", "", None),
        ("POST", "/credentials", None),
        ("DELETE", "/credentials", None),
        ("POST", "/replace", Some(json!({"new_device_id": "new"}))),
        ("POST", "/command", Some(json!({"command": "ping"}))),
        ("POST", "/config", Some(json!({"section": "telemetry", "values": {"interval_s": 10}}))),
    ] {
        let path = format!("/api/devices/other{path}");
        server.ask(&scoped, method, &path, body).await.problem(404);
    }
    let listed = server.get(&scoped, "/api/devices").await.json();
    assert_eq!(
        (listed["total"].as_i64(), &listed["items"][0]["device_id"]),
        (Some(1), &json!("mine"))
    );
    let fleet = server.get(&scoped, "/api/telemetry/latest").await.json();
    assert_eq!(fleet["items"], json!([]));
    let counted = json!({"query": "SELECT count(*) AS n FROM telemetry"});
    assert_eq!(
        server.post(&scoped, "/api/sql", counted.clone()).await.json()["rows"],
        json!([[0]])
    );
    assert_eq!(server.post(&server.viewer, "/api/sql", counted).await.json()["rows"], json!([[1]]));
    let offered = server.get(&scoped, "/api/firmware/check?device_id=other").await;
    offered.problem(404);
}

#[tokio::test]
async fn a_scope_that_names_nothing_sees_nothing() {
    let server = Server::new().await;
    server.device("d1").await;
    let nobody = server.scoped(Role::Viewer, &[]).await;
    assert_eq!(server.get(&nobody, "/api/devices").await.json()["total"], 0);
    assert_eq!(server.get(&nobody, "/api/dashboard/summary").await.json()["total"], 0);
    let stats = server.get(&nobody, "/api/dashboard/stats").await.json();
    assert_eq!(stats["messages"], Value::Null, "sums over all devices");
    assert_eq!(stats["storage"], Value::Null);
    server.get(&nobody, "/api/devices/d1").await.problem(404);
}
