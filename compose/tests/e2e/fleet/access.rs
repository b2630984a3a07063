//! Who may do what: every route by role, scopes in every list, tokens, passwords, throttling.

use std::collections::BTreeSet;

use acuvim_model::LoginResponse;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    answering::until,
    routes::{ADMIN, OPEN, OPERATOR, ROUTES, VIEWER},
};
use crate::harness::{PASSWORD, Server, T0, reading};

/// A body that the route accepts, if it takes one.
fn body(path: &str) -> Value {
    match path {
        "/api/auth/login" => json!({"username": "nobody", "password": "x"}),
        "/api/auth/refresh" | "/api/auth/logout" => json!({"refresh_token": "x"}),
        "/api/auth/password" => json!({"current_password": "x", "new_password": "x"}),
        "/api/auth/register" => {
            json!({"username": "u", "password": "short", "role": "Viewer"})
        }
        "/api/keys" => json!({"name": "", "role": "Viewer"}),
        "/api/devices" => json!({"device_id": "bad id"}),
        "/api/devices/{device_id}/replace" => json!({"new_device_id": "bad id"}),
        "/api/devices/{device_id}/command" | "/api/groups/{id}/command" => {
            json!({"command": "ping"})
        }
        "/api/devices/{device_id}/config" => json!({"section": "sd", "values": {"x": 1}}),
        "/api/groups" => json!({"name": ""}),
        "/api/groups/{id}" => json!({"name": "g"}),
        "/api/users/{id}" => json!({"role": "Viewer"}),
        "/api/sql" => json!({"query": "SELECT 1"}),
        "/api/rules" => json!({"name": "", "alert_type": "t", "when": "frequency_hz > 1"}),
        "/api/rules/backtest" => {
            json!({"from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z"})
        }
        "/api/notifications" | "/api/notifications/{id}" => json!({"name": "", "kind": "webhook"}),
        "/api/silences" => json!({"until": "2000-01-01T00:00:00Z", "reason": "r"}),
        _ => json!({}),
    }
}

async fn key(server: &Server, body: Value) -> String {
    let made: Value = server.post("/api/keys", &body).await.json().await.expect("key");
    made["secret"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_closed_below_its_role() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["http.requests_per_address=0"]).await;
    let document: Value = server.get("/api/openapi.json").await.json().await.expect("json");
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            described.insert((method.to_uppercase(), path.clone()));
            if path.starts_with("/api/") {
                let errors = ["400", "429", "503"];
                let answers = operation["responses"].as_object().expect("responses");
                assert!(errors.iter().all(|e| answers.contains_key(*e)), "{method} {path}");
            }
        }
    }
    let known: BTreeSet<_> =
        ROUTES.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(described, known, "the table has every route of the document, and no other");
    let mut callers = vec![(OPEN, None)];
    for (level, role) in [(VIEWER, "Viewer"), (OPERATOR, "Operator"), (ADMIN, "Admin")] {
        callers.push((level, Some(key(&server, json!({"name": role, "role": role})).await)));
    }
    for (method_name, path, least) in ROUTES {
        // A stream of events would not end, so it is asked for an unknown type.
        let query = if *path == "/api/events" { "?types=none" } else { "" };
        let url = format!("{}{}{query}", server.http, path.replace(['{', '}'], ""));
        for (level, secret) in &callers {
            let method: reqwest::Method = method_name.parse().expect("a method");
            let request = server.client.request(method, &url);
            let mut request = match *path {
                "/api/devices/import" | "/api/import" => {
                    request.body("x").header("Content-Type", "text/csv")
                }
                "/api/firmware" if *method_name == "POST" => {
                    request.body("x").header("Content-Type", "multipart/form-data; boundary=x")
                }
                _ => request.json(&body(path)),
            };
            if let Some(secret) = secret {
                request = request.bearer_auth(secret);
            }
            let answer = request.send().await.expect("answer");
            let status = answer.status().as_u16();
            let text = answer.text().await.expect("text");
            let shown = format!("{path} as {level}: {status} {text}");
            let operation = &document["paths"][*path][method_name.to_lowercase()];
            let said = operation["responses"].get(status.to_string());
            assert!(said.is_some(), "not in the document: {shown}");
            if *least == OPEN {
                assert!(![403, 404, 405].contains(&status), "{shown}");
            } else if *level == OPEN {
                assert_eq!(status, 401, "{shown}");
            } else if level < least {
                assert_eq!(status, 403, "{shown}");
            } else {
                // An API key has no password that could be changed.
                let allowed = *path == "/api/auth/password" || status != 403;
                assert!(![401, 405, 415, 500, 503].contains(&status) && allowed, "{shown}");
            }
            assert!(!text.contains("SELECT ") && !text.contains(".rs"), "{shown}");
        }
    }
    server.stop().await;
}

/// Fails on every row of device c, by a division by zero.
const FAILS_ON_C: &str = "SELECT device_id FROM telemetry
    WHERE 10 / (ascii(device_id) - 99) < 100 ORDER BY device_id";

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_is_the_same_through_every_door() {
    let dir = tempfile::tempdir().expect("dir");
    let quick = ["lake.flush_interval_ms=300", "lake.rollup_interval_seconds=1"];
    let server = Server::start(dir.path(), &quick).await;
    let group: Value =
        server.post("/api/groups", &json!({"name": "ours"})).await.json().await.expect("group");
    let other: Value =
        server.post("/api/groups", &json!({"name": "theirs"})).await.json().await.expect("group");
    let talk = server.device("talk").await;
    for device in ["a", "b", "c"] {
        let topic = format!("acuvim/{device}/telemetry");
        talk.publish(&topic, reading(T0), false).await.expect("ack");
        talk.publish(&topic, "broken", false).await.expect("ack");
    }
    server.wait_for("SELECT count(*) FROM telemetry", 3).await;
    server.wait_for("SELECT count(*) FROM rollup_daily", 3).await;
    for device in ["a", "b", "c"] {
        until(&server, &format!("/api/devices/{device}"), |_| true).await;
    }
    let members = format!("/api/groups/{}/members", group["id"].as_str().expect("id"));
    assert_eq!(server.post(&members, &json!({"add": ["a"]})).await.status(), 200);
    let theirs: Value = server
        .post("/api/devices/c/command", &json!({"command": "ping"}))
        .await
        .json()
        .await
        .expect("JSON");
    // A caller who sees c gets an error of the query, not of the lake.
    let failed = server.post("/api/sql", &json!({"query": FAILS_ON_C})).await;
    assert_eq!(failed.status(), 400);
    let scope = json!({"group_ids": [group["id"]], "device_ids": ["b"]});
    let new = json!({"username": "ops", "password": "a long enough one", "role": "Admin", "scope": scope});
    assert_eq!(server.post("/api/auth/register", &new).await.status(), 201);
    let login = json!({"username": "ops", "password": "a long enough one"});
    let url = format!("{}/api/auth/login", server.http);
    let answer = server.client.post(url).json(&login).send().await.expect("login");
    let user: LoginResponse = answer.json().await.expect("login");
    let secret = key(&server, json!({"name": "k", "role": "Admin", "scope": scope})).await;
    for token in [user.access_token.as_str(), secret.as_str()] {
        let caller = Caller { server: &server, token };
        sees_its_devices(&caller).await;
        sees_nothing_else(&caller, &theirs, &other).await;
        changes_only_its_devices(&caller, &new, &other).await;
    }
    server.stop().await;
}

struct Caller<'a> {
    server: &'a Server,
    token: &'a str,
}

impl Caller<'_> {
    async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.server.http);
        let request = self.server.client.get(url).bearer_auth(self.token);
        let answer = request.send().await.expect("answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.server.http);
        let method: reqwest::Method = method.parse().expect("a method");
        let request = self.server.client.request(method, url).bearer_auth(self.token).json(&body);
        let answer = request.send().await.expect("answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }
}

/// Lists, sums and queries cover the devices of the scope, which are a and b.
async fn sees_its_devices(caller: &Caller<'_>) {
    let (_, list) = caller.get("/api/devices").await;
    let ids: Vec<&str> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|d| d["device_id"].as_str())
        .collect();
    assert_eq!((ids, &list["total"]), (vec!["a", "b"], &json!(2)));
    assert_eq!(caller.get("/api/dashboard/summary").await.1["total"], 2);
    let stats = "/api/dashboard/stats?from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z";
    let (_, stats) = caller.get(stats).await;
    assert_eq!((&stats["devices"], &stats["freshness"]["devices"]), (&json!(2), &json!(2)));
    assert_eq!((&stats["messages"], &stats["storage"]), (&Value::Null, &Value::Null));
    let (_, latest) = caller.get("/api/telemetry/latest").await;
    let latest: Vec<&Value> =
        latest["items"].as_array().expect("items").iter().map(|d| &d["device_id"]).collect();
    assert_eq!(latest, ["a", "b"]);
    let (_, groups) = caller.get("/api/groups").await;
    assert_eq!((&groups["total"], &groups["items"][0]["name"]), (&json!(1), &json!("ours")));
    assert_eq!(caller.get("/api/auth/me").await.1["scope"]["device_ids"], json!(["b"]));
    for table in ["telemetry", "dead_letters", "devices", "rollup_15m", "rollup_daily"] {
        let query = json!({"query": format!("SELECT DISTINCT device_id FROM {table} ORDER BY 1")});
        let (status, rows) = caller.send("POST", "/api/sql", query).await;
        assert_eq!((status, &rows["rows"]), (200, &json!([["a"], ["b"]])), "{table}: {rows}");
    }
    // It would fail on c's rows, whose existence this caller must not learn of.
    let fails = json!({"query": FAILS_ON_C});
    let (status, rows) = caller.send("POST", "/api/sql", fails).await;
    assert_eq!((status, &rows["rows"]), (200, &json!([["a"], ["b"]])), "{rows}");
}

/// What is outside the scope looks as if it did not exist.
async fn sees_nothing_else(caller: &Caller<'_>, command: &Value, group: &Value) {
    let request = command["request_id"].as_str().expect("id");
    let theirs = group["id"].as_str().expect("id");
    for (method, path, body) in [
        ("GET", "/api/devices/c".to_owned(), json!({})),
        ("PATCH", "/api/devices/c".to_owned(), json!({"name": "x"})),
        ("DELETE", "/api/devices/c".to_owned(), json!({})),
        ("GET", "/api/devices/c/status".to_owned(), json!({})),
        ("GET", "/api/devices/c/telemetry".to_owned(), json!({})),
        ("GET", "/api/devices/c/telemetry/history".to_owned(), json!({})),
        ("GET", "/api/devices/c/telemetry/export".to_owned(), json!({})),
        ("POST", "/api/devices/c/command".to_owned(), json!({"command": "ping"})),
        ("GET", "/api/devices/c/commands".to_owned(), json!({})),
        ("GET", format!("/api/commands/{request}"), json!({})),
        ("GET", "/api/devices/c/config".to_owned(), json!({})),
        ("POST", "/api/devices/c/config".to_owned(), json!({"section": "sd", "values": {"x": 1}})),
        ("GET", "/api/devices/c/config/history".to_owned(), json!({})),
        ("POST", "/api/devices/c/replace".to_owned(), json!({"new_device_id": "z"})),
        ("POST", "/api/devices/c/credentials".to_owned(), json!({})),
        ("GET", format!("/api/groups/{theirs}"), json!({})),
        ("PATCH", format!("/api/groups/{theirs}"), json!({"name": "x"})),
        ("POST", format!("/api/groups/{theirs}/command"), json!({"command": "ping"})),
    ] {
        let (status, problem) = caller.send(method, &path, body.clone()).await;
        assert_eq!(status, 404, "{method} {path}: {problem}");
        let nowhere = path
            .replace("/devices/c", "/devices/none")
            .replace(theirs, "018f0000-0000-7000-8000-000000000000")
            .replace(request, "018f0000-0000-7000-8000-000000000000");
        let (_, none) = caller.send(method, &nowhere, body).await;
        assert_eq!(problem, none, "{method} {path}");
    }
}

/// What concerns every device needs a caller without a scope.
async fn changes_only_its_devices(caller: &Caller<'_>, new: &Value, group: &Value) {
    for (method, path, body) in [
        ("POST", "/api/devices", json!({"device_id": "new"})),
        ("POST", "/api/import", json!({})),
        ("POST", "/api/groups", json!({"name": "new"})),
        ("GET", "/api/users", json!({})),
        ("POST", "/api/auth/register", new.clone()),
        ("POST", "/api/keys", json!({"name": "all", "role": "Admin"})),
        ("GET", "/api/audit", json!({})),
    ] {
        assert_eq!(caller.send(method, path, body).await.0, 403, "{method} {path}");
    }
    let moved = json!({"group_id": group["id"]});
    assert_eq!(
        caller.send("PATCH", "/api/devices/a", moved).await.0,
        400,
        "into what it does not see"
    );
}

/// A token with these claims, signed with the secret.
fn token(secret: &str, algorithm: Algorithm, kind: Option<&str>, claims: &Value) -> String {
    let header = Header { typ: kind.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

/// The session that a token belongs to.
fn login_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("three parts");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
    serde_json::from_slice::<Value>(&claims).expect("JSON")["fam"].clone()
}

/// `{"alg":"none","typ":"at+jwt"}`
const UNSIGNED: &str = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0";

#[tokio::test(flavor = "multi_thread")]
async fn only_our_own_tokens_open() {
    let dir = tempfile::tempdir().expect("dir");
    let secret = "0123456789abcdef0123456789abcdef";
    let set = format!("jwt.secret={secret}");
    let server = Server::start(dir.path(), &[&set]).await;
    let me: Value = server.get("/api/auth/me").await.json().await.expect("JSON");
    let now = chrono::Utc::now().timestamp();
    let make =
        |secret: &str, claims: &Value| token(secret, Algorithm::HS256, Some("at+jwt"), claims);
    let claims = json!({
        "sub": me["id"], "name": "admin", "role": "Admin", "sv": 0, "iss": "Tau.Acuvim.Console",
        "aud": "acuvim-api", "iat": now, "exp": now + 60, "fam": login_of(&server.token().await)
    });
    let with = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        claims
    };
    let without = |field: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().expect("object").remove(field);
        claims
    };
    let ask = async |token: &str| {
        let url = format!("{}/api/auth/me", server.http);
        let answer = server.client.get(url).bearer_auth(token).send().await.expect("answer");
        answer.status().as_u16()
    };
    assert_eq!(ask(&make(secret, &claims)).await, 200, "the test can make good ones");
    let unsigned = {
        let good = make(secret, &claims);
        let claims = good.split('.').nth(1).expect("three parts");
        format!("{UNSIGNED}.{claims}.")
    };
    for (what, bad) in [
        ("forged", make("another secret of the same length", &claims)),
        ("unsigned", unsigned),
        ("another algorithm", token(secret, Algorithm::HS512, Some("at+jwt"), &claims)),
        ("another type", token(secret, Algorithm::HS256, Some("JWT"), &claims)),
        ("no type", token(secret, Algorithm::HS256, None, &claims)),
        ("expired", make(secret, &with("exp", json!(now - 60)))),
        ("without end", make(secret, &without("exp"))),
        ("another audience", make(secret, &with("aud", json!("others")))),
        ("without audience", make(secret, &without("aud"))),
        ("another issuer", make(secret, &with("iss", json!("others")))),
        ("another session", make(secret, &with("sv", json!(7)))),
        (
            "another login",
            make(secret, &with("fam", json!("018f0000-0000-7000-8000-000000000000"))),
        ),
        ("without a login", make(secret, &without("fam"))),
        ("nobody", make(secret, &with("sub", json!("018f0000-0000-7000-8000-000000000000")))),
    ] {
        assert_eq!(ask(&bad).await, 401, "{what}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_sessions_and_guesses() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["http.trusted_proxies=127.0.0.1"]).await;
    let login =
        async |name: &str, password: &str, from: &str| login(&server, name, password, from).await;
    let new =
        json!({"username": "Night.Shift", "password": "a long enough one", "role": "Operator"});
    let made: Value = server.post("/api/auth/register", &new).await.json().await.expect("JSON");
    assert_eq!(made["username"], "night.shift");
    assert_eq!(server.post("/api/auth/register", &new).await.status(), 409);
    for (bad, field) in [
        (json!({"username": "a b", "password": "a long enough one", "role": "Viewer"}), "username"),
        (json!({"username": "x", "password": "short", "role": "Viewer"}), "password"),
        (
            json!({"username": "shifty", "password": "shifty-is-my-name", "role": "Viewer"}),
            "password",
        ),
        (json!({"username": "x", "password": "a long enough one", "role": "Boss"}), "Boss"),
    ] {
        let answer = server.post("/api/auth/register", &bad).await;
        assert_eq!(answer.status(), 400, "{bad}");
        assert!(answer.text().await.expect("text").contains(field), "{bad}");
    }
    let session: LoginResponse =
        login("night.shift", "a long enough one", "192.0.2.1").await.json().await.expect("login");
    let me = async |token: &str| {
        let url = format!("{}/api/auth/me", server.http);
        server.client.get(url).bearer_auth(token).send().await.expect("answer").status().as_u16()
    };
    assert_eq!(me(&session.access_token).await, 200);
    // A disabled user's session ends, and there is no new one.
    let path = format!("{}/api/users/{}", server.http, made["id"].as_str().expect("id"));
    let token = server.token().await;
    let put = async |body: Value| {
        server.client.put(&path).bearer_auth(&token).json(&body).send().await.expect("answer")
    };
    assert_eq!(put(json!({"role": "Operator", "enabled": false})).await.status(), 200);
    assert_eq!(me(&session.access_token).await, 401);
    let refresh = json!({"refresh_token": session.refresh_token});
    assert_eq!(server.post("/api/auth/refresh", &refresh).await.status(), 401);
    assert_eq!(login("night.shift", "a long enough one", "192.0.2.1").await.status(), 401);
    let back = json!({"role": "Viewer", "enabled": true, "password": "another long one"});
    assert_eq!(put(back).await.status(), 200);
    assert_eq!(login("night.shift", "a long enough one", "192.0.2.1").await.status(), 401);
    assert_eq!(login("night.shift", "another long one", "192.0.2.1").await.status(), 200);
    // The last admin can't be lowered, disabled or removed.
    let me_now: Value = server.get("/api/auth/me").await.json().await.expect("JSON");
    let own = format!("{}/api/users/{}", server.http, me_now["id"].as_str().expect("id"));
    let lower = server.client.put(&own).bearer_auth(&token).json(&json!({"role": "Viewer"}));
    assert_eq!(lower.send().await.expect("answer").status(), 422);
    let gone = server.client.delete(&own).bearer_auth(&token).send().await.expect("answer");
    assert_eq!(gone.status(), 422);
    guesses_are_slowed_down(&server).await;
    server.stop().await;
}

async fn login(server: &Server, name: &str, password: &str, from: &str) -> reqwest::Response {
    let url = format!("{}/api/auth/login", server.http);
    let body = json!({"username": name, "password": password});
    let request = server.client.post(url).json(&body).header("X-Forwarded-For", from);
    request.send().await.expect("answer")
}

/// Who guesses has to wait; the admin at another address, and another name, don't.
async fn guesses_are_slowed_down(server: &Server) {
    let login =
        async |name: &str, password: &str, from: &str| login(server, name, password, from).await;
    let mut throttled = None;
    for _ in 0..8 {
        let answer = login("admin", "a wrong guess", "192.0.2.66").await;
        if answer.status() == 429 {
            throttled = Some(answer.headers()["retry-after"].to_str().expect("text").to_owned());
        }
    }
    assert!(throttled.expect("throttled").parse::<u64>().expect("seconds") <= 61);
    assert_eq!(login("admin", PASSWORD, "192.0.2.66").await.status(), 429);
    assert_eq!(login("admin", PASSWORD, "192.0.2.2").await.status(), 200);
    let audit: Value = server
        .get("/api/audit?action=user.login&actor=night.shift")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(audit["items"][0]["address"], "192.0.2.1");
    let path = "/api/audit?action=user.login_failed&actor=admin";
    let failed: Value = server.get(path).await.json().await.expect("JSON");
    assert_eq!(failed["items"][0]["address"], "192.0.2.66");
    // Parallel attempts are not checked faster than sequential ones.
    let guesses: Vec<_> = (0..40)
        .map(|_| {
            let request = server.client.post(format!("{}/api/auth/login", server.http));
            let body = json!({"username": "admin", "password": "a wrong guess"});
            let request = request.json(&body).header("X-Forwarded-For", "192.0.2.67");
            tokio::spawn(request.send())
        })
        .collect();
    let mut checked = 0;
    for guess in guesses {
        let answer = guess.await.expect("a task").expect("answer");
        checked += u32::from(answer.status() == 401);
    }
    assert!(checked <= 5, "{checked} were checked");
    // A password can't be guessed with a valid token either.
    let session: LoginResponse =
        login("night.shift", "another long one", "192.0.2.3").await.json().await.expect("login");
    let mut answers = Vec::new();
    for _ in 0..8 {
        let url = format!("{}/api/auth/password", server.http);
        let body = json!({"current_password": "a wrong guess", "new_password": "yet another one"});
        let request = server.client.post(url).bearer_auth(&session.access_token).json(&body);
        let request = request.header("X-Forwarded-For", "192.0.2.3");
        answers.push(request.send().await.expect("answer").status().as_u16());
    }
    assert_eq!(answers[..5], [400; 5]);
    assert_eq!(answers.last(), Some(&429), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_of_the_first_admin_is_in_no_file() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let file = dir.path().join("initial-admin-password");
    std::fs::write(&file, PASSWORD).expect("written");
    let common = json!({"current_password": PASSWORD, "new_password": "Password12345"});
    let refused = server.post("/api/auth/password", &common).await;
    assert_eq!(refused.status(), 400);
    assert!(file.exists(), "it still holds");
    let change = json!({"current_password": PASSWORD, "new_password": "quite another one"});
    assert_eq!(server.post("/api/auth/password", &change).await.status(), 204);
    assert!(!file.exists());
    // Changed through another process: the next start deletes the file.
    std::fs::write(&file, PASSWORD).expect("written");
    server.stop().await;
    let server = Server::start(dir.path(), &[]).await;
    assert!(!file.exists());
    std::fs::write(&file, "quite another one").expect("written");
    server.stop().await;
    let server = Server::start(dir.path(), &[]).await;
    assert!(file.exists(), "one that holds stays");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_takes_its_access_tokens_and_live_connections_along() {
    let dir = tempfile::tempdir().expect("dir");
    let mut server = Server::start(dir.path(), &[]).await;
    server.expect("a refresh token was used twice");
    let post = async |path: &str, body: Value| {
        let url = format!("{}/api/auth/{path}", server.http);
        server.client.post(url).json(&body).send().await.expect("answer")
    };
    let login = async || {
        let body = json!({"username": "admin", "password": PASSWORD});
        post("login", body).await.json::<LoginResponse>().await.expect("login")
    };
    let ask = async |path: &str, token: &str| {
        let url = format!("{}{path}", server.http);
        server.client.get(url).bearer_auth(token).send().await.expect("answer")
    };
    let me = async |token: &str| ask("/api/auth/me", token).await.status().as_u16();
    let (one, two, other) = (login().await, login().await, login().await);
    let mut events = ask("/api/events", &one.access_token).await;
    assert_eq!(events.status(), 200);
    let answer = post("logout", json!({"refresh_token": one.refresh_token})).await;
    assert_eq!(answer.status(), 204);
    assert_eq!(me(&one.access_token).await, 401);
    let ended = tokio::time::timeout(crate::harness::PATIENCE, async {
        while events.chunk().await.is_ok_and(|chunk| chunk.is_some()) {}
    });
    assert!(ended.await.is_ok(), "the stream ends with the session");
    // A refresh token that is used twice ends the session, so a stolen copy is worthless.
    let used = json!({"refresh_token": two.refresh_token});
    let next: LoginResponse = post("refresh", used.clone()).await.json().await.expect("tokens");
    assert_eq!((me(&two.access_token).await, me(&next.access_token).await), (200, 200));
    assert_eq!(post("refresh", used).await.status(), 401);
    assert_eq!((me(&two.access_token).await, me(&next.access_token).await), (401, 401));
    assert_eq!(me(&other.access_token).await, 200, "another login stands");
    let path = "/api/audit?action=user.token_reused";
    let audit: Value = ask(path, &other.access_token).await.json().await.expect("JSON");
    let (total, actor) = (&audit["total"], &audit["items"][0]["actor"]);
    assert_eq!((total, actor), (&json!(1), &json!("admin")));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_zipped_bodies_and_strange_origins_are_turned_away() {
    let dir = tempfile::tempdir().expect("dir");
    let set = ["http.requests_per_address=3", "http.cors_origins=https://ops.example"];
    let server = Server::start(dir.path(), &set).await;
    let token = server.token().await;
    let url = format!("{}/api/devices", server.http);
    let zipped = server.client.post(format!("{}/api/sql", server.http)).bearer_auth(&token);
    let zipped = zipped
        .header("Content-Encoding", "gzip")
        .header("Content-Type", "application/json")
        .body(vec![0_u8; 100]);
    assert_eq!(zipped.send().await.expect("answer").status(), 415);
    let from = async |origin: &str| {
        let answer = server.client.get(&url).bearer_auth(&token).header("Origin", origin);
        let answer = answer.send().await.expect("answer");
        answer.headers().get("access-control-allow-origin").cloned()
    };
    assert_eq!(from("https://ops.example").await.expect("allowed"), "https://ops.example");
    assert_eq!(from("https://evil.example").await, None);
    let answer = server.client.get(&url).bearer_auth(&token).send().await.expect("answer");
    for header in ["content-security-policy", "x-frame-options", "referrer-policy", "x-request-id"]
    {
        assert!(answer.headers().contains_key(header), "{header}");
    }
    let mut refused = None;
    for _ in 0..300 {
        let answer = server.client.get(&url).bearer_auth(&token).send().await.expect("answer");
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a flood is turned away");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    server.stop().await;
}
