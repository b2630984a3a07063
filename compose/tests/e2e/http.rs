//! The API from its users' side: logins, keys, roles, problems, OpenAPI, and harmful SQL.

use acuvim_model::{LoginResponse, problem::Problem};
use serde_json::{Value, json};

use crate::harness::{PASSWORD, Server, T0, reading};

async fn problem(answer: reqwest::Response) -> Problem {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Problem = answer.json().await.expect("a problem");
    assert_eq!(problem.status, status);
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_sessions_keys_and_roles() {
    let dir = tempfile::tempdir().expect("dir");
    let mut server = Server::start(dir.path(), &[]).await;
    server.expect("a refresh token was used twice");
    let (client, http) = (&server.client, &server.http);
    let post = async |path: &str, body: Value| {
        client.post(format!("{http}{path}")).json(&body).send().await.expect("answer")
    };
    let wrong = post("/api/auth/login", json!({"username": "admin", "password": "x"})).await;
    assert_eq!(problem(wrong).await.code, "unauthorized");
    let nobody = post("/api/auth/login", json!({"username": "eve", "password": "x"})).await;
    assert_eq!(nobody.status(), 401);
    let login = json!({"username": "Admin", "password": PASSWORD});
    let first: LoginResponse = post("/api/auth/login", login).await.json().await.expect("login");
    assert_eq!((first.token_type.as_str(), first.expires_in), ("Bearer", 86_400));
    let refresh = json!({"refresh_token": first.refresh_token});
    let second = post("/api/auth/refresh", refresh.clone()).await;
    let second: LoginResponse = second.json().await.expect("refresh");
    assert_eq!(post("/api/auth/refresh", refresh).await.status(), 401, "good once");
    let family = json!({"refresh_token": second.refresh_token});
    assert_eq!(post("/api/auth/refresh", family).await.status(), 401, "reuse ends the family");

    let new = json!({"name": "grafana", "role": "Viewer"});
    let made: Value = server.post("/api/keys", &new).await.json().await.expect("key");
    let secret = made["secret"].as_str().expect("shown once");
    let listed: Value = server.get("/api/keys").await.json().await.expect("list");
    assert_eq!(listed["total"], 1);
    assert!(!listed.to_string().contains(secret));
    let get = |path: &str| client.get(format!("{http}{path}"));
    for request in [
        get("/api/auth/me").bearer_auth(secret),
        get("/api/auth/me").header("X-Api-Key", secret),
        get("/api/auth/me").basic_auth("any", Some(secret)),
    ] {
        let me: Value = request.send().await.expect("answer").json().await.expect("json");
        assert_eq!((&me["username"], &me["role"]), (&json!("grafana"), &json!("Viewer")));
    }
    let refused = get("/api/keys").bearer_auth(secret).send().await.expect("answer");
    assert_eq!(problem(refused).await.code, "forbidden");
    for path in ["/api/devices", "/api/keys", "/api/auth/me", "/api/sql/tables", "/api/devices/x"] {
        assert_eq!(get(path).send().await.expect("answer").status(), 401, "{path}");
    }
    let forged = format!("{}x", first.access_token);
    assert_eq!(get("/api/auth/me").bearer_auth(forged).send().await.expect("answer").status(), 401);
    let id = made["id"].as_str().expect("id");
    let delete = client.delete(format!("{http}/api/keys/{id}")).bearer_auth(server.token().await);
    assert_eq!(delete.send().await.expect("answer").status(), 204);
    assert_eq!(get("/api/auth/me").bearer_auth(secret).send().await.expect("answer").status(), 401);

    let change = json!({"current_password": PASSWORD, "new_password": "another good password"});
    assert_eq!(server.post("/api/auth/password", &change).await.status(), 204);
    assert_eq!(server.get("/api/auth/me").await.status(), 401, "access tokens end too");
    let old = post("/api/auth/login", json!({"username": "admin", "password": PASSWORD})).await;
    assert_eq!(old.status(), 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_name_what_is_wrong() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    for (path, body, status, word) in [
        ("/api/keys", json!({"name": "", "role": "Viewer"}), 400, "name"),
        ("/api/keys", json!({"name": "x", "role": "King"}), 400, "King"),
        ("/api/keys", json!({"name": "x", "role": "Viewer", "scope": 1}), 400, "scope"),
        ("/api/keys", json!({"name": "x", "role": "Viewer", "colour": 1}), 400, "colour"),
        ("/api/sql", json!({"query": "SELECT 1", "format": "xml"}), 400, "xml"),
        ("/api/sql", json!({"query": "SELECT $1"}), 400, "parameters"),
        ("/api/sql", json!({"query": "SELECT nope FROM telemetry"}), 400, "nope"),
        ("/api/sql", json!({"query": "SELECT 1 FROM nowhere"}), 400, "nowhere"),
        ("/api/sql", json!({"query": "SELECT 1 FROM '/etc/passwd'"}), 400, "passwd"),
        ("/api/devices/a b/credentials", json!({}), 400, "device_id"),
    ] {
        let answer = problem(server.post(path, &body).await).await;
        assert_eq!(answer.status, status, "{path} {body}");
        let text = format!("{} {:?}", answer.detail, answer.errors);
        assert!(text.contains(word), "{path} {body}: {text}");
    }
    for (path, status) in [
        ("/api/devices?limit=0", 400),
        ("/api/devices?colour=red", 400),
        ("/api/devices/none", 404),
        ("/api/devices/none/telemetry", 404),
        ("/api/nothing", 404),
        ("/api/sql", 405),
    ] {
        assert_eq!(problem(server.get(path).await).await.status, status, "{path}");
    }
    let url = format!("{}/api/sql", server.http);
    let request = |body: String| {
        server.client.post(&url).header("Content-Type", "application/json").body(body)
    };
    let token = server.token().await;
    let broken = request("{\"query\":".into()).bearer_auth(&token).send().await.expect("answer");
    assert_eq!(problem(broken).await.code, "bad_request");
    let large = request("x".repeat(2 << 20)).bearer_auth(&token).send().await.expect("answer");
    assert_eq!(large.status(), 413);
    let plain =
        server.client.post(&url).bearer_auth(&token).body("x").send().await.expect("answer");
    assert_eq!(plain.status(), 415);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_is_bounded_and_cannot_hurt() {
    let dir = tempfile::tempdir().expect("dir");
    let limits = ["sql.memory_mb=16", "sql.spill_mb=1", "sql.max_cells=10000"];
    let server = Server::start(dir.path(), &limits).await;
    let device = server.device("d1").await;
    let lines: Vec<String> = (0..400).map(|n| reading(T0 + n * 1000)).collect();
    for part in 0..5 {
        let lines: Vec<_> = (0..400).map(|n| reading(T0 + (part * 400 + n) * 1000)).collect();
        device.publish("acuvim/d1/telemetry", lines.join("\n"), false).await.expect("ack");
    }
    assert_eq!(lines.len(), 400);
    server.wait_for("SELECT count(*) FROM telemetry", 2000).await;

    let capped = server.ask(json!({"query": "SELECT ts FROM telemetry", "max_rows": 7})).await;
    assert_eq!((capped.row_count, capped.truncated), (7, true));
    let all = server.ask(json!({"query": "SELECT ts FROM telemetry LIMIT 5"})).await;
    assert_eq!((all.row_count, all.truncated), (5, false));
    let wide = json!({"query": "SELECT * FROM telemetry"});
    let wide = problem(server.post("/api/sql", &wide).await).await;
    assert_eq!((wide.status, wide.code.as_str()), (422, "refused"));
    assert!(wide.detail.contains("sql.max_cells"), "{wide:?}");
    let few = server.ask(json!({"query": "SELECT * FROM telemetry", "max_rows": 10})).await;
    assert_eq!((few.row_count, few.rows.len(), few.truncated), (10, 10, true));
    let bound = json!({"query": "SELECT count(*) FROM telemetry WHERE device_id = $1 AND seq IS NULL AND voltage_l1_v > $2", "params": ["d1", 200.5]});
    assert_eq!(server.ask(bound).await.rows[0][0], 2000);
    let deep = format!("SELECT {}1", "1+".repeat(580));
    assert_eq!(server.ask(json!({"query": deep})).await.rows[0][0], 581);

    // Eight thousand million rows: the deadline stops the query, and the server continues.
    let endless = "SELECT count(*) FROM telemetry a, telemetry b, telemetry c WHERE a.ts < b.ts AND b.ts < c.ts";
    let endless = json!({"query": endless, "timeout_ms": 3000});
    let late = problem(server.post("/api/sql", &endless).await).await;
    assert!(matches!(late.code.as_str(), "deadline_exceeded" | "out_of_memory"), "{late:?}");
    let wide = "SELECT DISTINCT a.ts, b.ts, a.extra || b.device_id FROM telemetry a, telemetry b ORDER BY 2, 1";
    let large = problem(server.post("/api/sql", &json!({"query": wide})).await).await;
    assert!(matches!(large.code.as_str(), "out_of_memory" | "deadline_exceeded"), "{large:?}");
    for hostile in [
        "SELECT repeat('x', 2000000000)",
        "SELECT * FROM range(0, 400000000)",
        "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT * FROM n) SELECT count(*) FROM n",
        "COPY telemetry TO '/tmp/x'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "SELECT from_unixtime(9223372036854775807)",
        "SELECT from_unixtime(CAST('-9223372036854775808' AS BIGINT))",
        "SELECT to_timestamp_seconds(9223372036854775807)",
        "SELECT to_timestamp(1e300)",
        "SELECT to_local_time(to_timestamp_seconds(8210266876799))",
    ] {
        let answer = problem(server.post("/api/sql", &json!({"query": hostile})).await).await;
        assert_eq!(answer.code, "bad_query", "{hostile}");
    }
    assert_eq!(server.number("SELECT count(*) FROM telemetry").await, 2000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_document_answers_and_is_closed_to_strangers() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let document: Value = server.get("/api/openapi.json").await.json().await.expect("json");
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() >= 12);
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let url = format!("{}{}", server.http, path.replace(['{', '}'], ""));
            let method: reqwest::Method = method.to_uppercase().parse().expect("a method");
            let answer = server.client.request(method.clone(), url).send().await.expect("answer");
            let open = operation["security"] == json!([{}]);
            let status = answer.status().as_u16();
            if open {
                assert!(![401, 404, 405].contains(&status), "{method} {path}: {status}");
            } else {
                assert_eq!(status, 401, "{method} {path}");
            }
        }
    }
    let swagger = server.get("/swagger/").await;
    assert!(swagger.status().is_success());
    let tables: Value = server.get("/api/sql/tables").await.json().await.expect("json");
    let names: Vec<_> = tables.as_array().expect("a list").iter().map(|t| &t["name"]).collect();
    let lake =
        ["telemetry", "heartbeats", "alert_events", "device_events", "dead_letters", "ledger"];
    let rollups = ["rollup_15m", "rollup_daily"];
    let control = ["devices", "alerts", "replays", "firmware", "rollouts", "rollout_devices"];
    assert_eq!(names, [&lake[..], &rollups, &control].concat());
    for path in ["/livez", "/readyz", "/metrics"] {
        let url = format!("{}{path}", server.http);
        let answer = server.client.get(url).send().await.expect("answer");
        assert!(answer.status().is_success(), "{path}");
        assert!(answer.headers().contains_key("x-request-id"));
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
    server.stop().await;
}
