//! Logins, sessions, users, keys and the audit.

use acuvim_model::Role;
use serde_json::{Value, json};

use crate::testing::{Server, by};

const PASSWORD: &str = "correct horse battery";

async fn user(server: &Server, name: &str, role: &str) -> String {
    let body = json!({"username": name, "password": PASSWORD, "role": role});
    let made = server.post(&server.admin, "/api/auth/register", body).await.json();
    made["id"].as_str().expect("an id").to_owned()
}

async fn login(server: &Server, name: &str) -> Value {
    let body = json!({"username": name, "password": PASSWORD});
    server.post("", "/api/auth/login", body).await.json()
}

fn token(session: &Value) -> &str {
    session["access_token"].as_str().expect("a token")
}

#[tokio::test]
async fn a_login_is_the_users_in_any_case_of_the_name_and_says_nothing_of_others() {
    let server = Server::new().await;
    user(&server, "Alice", "Operator").await;
    let session = login(&server, "aLiCe").await;
    assert_eq!(session["user"]["username"], "alice");
    assert_eq!((&session["token_type"], &session["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let me = server.get(token(&session), "/api/auth/me").await.json();
    assert_eq!((&me["role"], &me["scope"]), (&json!("Operator"), &Value::Null));
    let refused = async |name: &str, password: &str| {
        let body = json!({"username": name, "password": password});
        server.post("", "/api/auth/login", body).await.problem(401)
    };
    let wrong = refused("alice", "wrong password 1").await;
    assert_eq!(wrong, refused("nobody", PASSWORD).await, "the same words for both");
    assert_eq!(wrong, refused("", "").await);
    assert_eq!(wrong, refused("alice", &"x".repeat(100_000)).await);
    for body in [
        json!({}),
        json!({"username": "alice"}),
        json!({"username": "a", "password": "b", "otp": 1}),
    ] {
        server.post("", "/api/auth/login", body).await.problem(400);
    }
}

#[tokio::test]
async fn who_guesses_a_password_waits_and_others_do_not() {
    let server = Server::new().await;
    user(&server, "alice", "Viewer").await;
    user(&server, "bob", "Viewer").await;
    let wrong = json!({"username": "alice", "password": "wrong password 1"});
    for _ in 0..5 {
        server.post("", "/api/auth/login", wrong.clone()).await.problem(401);
    }
    let right = json!({"username": "alice", "password": PASSWORD});
    let answer = server.post("", "/api/auth/login", right).await;
    answer.problem(429);
    assert_eq!(answer.header("retry-after"), "1");
    login(&server, "bob").await;
    let audit = server.get(&server.admin, "/api/audit?action=user.login_failed").await.json();
    assert_eq!(audit["total"], 5);
    assert_eq!(audit["items"][0]["address"], "192.0.2.7");
    assert!(!audit.to_string().contains("wrong password"));
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_using_it_twice_ends_the_login() {
    let server = Server::new().await;
    user(&server, "alice", "Viewer").await;
    let first = login(&server, "alice").await;
    let another = login(&server, "alice").await;
    let refresh = async |session: &Value| {
        let body = json!({"refresh_token": session["refresh_token"]});
        server.post("", "/api/auth/refresh", body).await
    };
    let second = refresh(&first).await.json();
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(server.get(token(&second), "/api/auth/me").await.status, 200);
    refresh(&first).await.problem(401);
    for ended in [&first, &second] {
        server.get(token(ended), "/api/auth/me").await.problem(401);
    }
    refresh(&second).await.problem(401);
    assert_eq!(server.get(token(&another), "/api/auth/me").await.status, 200, "another login");
    for junk in ["", "x", "00000000-0000-0000-0000-000000000000"] {
        server.post("", "/api/auth/refresh", json!({"refresh_token": junk})).await.problem(401);
    }
}

#[tokio::test]
async fn a_logout_ends_its_login_at_once_and_no_other() {
    let server = Server::new().await;
    user(&server, "alice", "Viewer").await;
    let (one, other) = (login(&server, "alice").await, login(&server, "alice").await);
    let body = json!({"refresh_token": one["refresh_token"]});
    assert_eq!(server.post("", "/api/auth/logout", body.clone()).await.status, 204);
    server.get(token(&one), "/api/auth/me").await.problem(401);
    server.post("", "/api/auth/refresh", body.clone()).await.problem(401);
    assert_eq!(server.get(token(&other), "/api/auth/me").await.status, 200);
    assert_eq!(server.post("", "/api/auth/logout", body).await.status, 204, "again is no fault");
}

#[tokio::test]
async fn a_change_of_the_own_password_takes_the_old_one_and_ends_all_sessions() {
    let server = Server::new().await;
    user(&server, "admin", "Admin").await;
    let initial = server.dir.path().join("initial_password");
    std::fs::write(&initial, PASSWORD).expect("a file");
    let session = login(&server, "admin").await;
    let change = async |key: &str, current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        server.post(key, "/api/auth/password", body).await
    };
    assert_eq!(
        change(token(&session), "wrong", "another good one").await.field(),
        "current_password"
    );
    assert_eq!(change(token(&session), PASSWORD, "short").await.field(), "new_password");
    assert_eq!(change(token(&session), PASSWORD, "xx admin xxxx").await.field(), "new_password");
    change(&server.admin, PASSWORD, "another good one").await.problem(403);
    assert!(initial.exists(), "it still holds");
    assert_eq!(change(token(&session), PASSWORD, "another good one").await.status, 204);
    assert!(!initial.exists(), "it is of no use any more");
    server.get(token(&session), "/api/auth/me").await.problem(401);
    let old = json!({"username": "admin", "password": PASSWORD});
    server.post("", "/api/auth/login", old).await.problem(401);
    let new = json!({"username": "admin", "password": "another good one"});
    assert_eq!(server.post("", "/api/auth/login", new).await.status, 200);
}

#[tokio::test]
async fn a_change_of_a_user_holds_for_tokens_that_were_given_before() {
    let server = Server::new().await;
    // The last admin could not be lowered.
    user(&server, "bob", "Admin").await;
    let id = user(&server, "alice", "Admin").await;
    let path = format!("/api/users/{id}");
    let session = login(&server, "alice").await;
    assert_eq!(server.get(token(&session), "/api/users").await.status, 200);
    let body = json!({"role": "Viewer", "scope": {"device_ids": ["d1"]}});
    let changed = server.put(&server.admin, &path, body).await.json();
    assert_eq!((&changed["role"], &changed["enabled"]), (&json!("Viewer"), &json!(true)));
    server.get(token(&session), "/api/users").await.problem(401);
    let session = login(&server, "alice").await;
    server.get(token(&session), "/api/users").await.problem(403);
    let me = server.get(token(&session), "/api/auth/me").await.json();
    assert_eq!(me["scope"]["device_ids"], json!(["d1"]));
    let off = json!({"role": "Viewer", "enabled": false});
    assert_eq!(server.put(&server.admin, &path, off).await.json()["scope"], Value::Null);
    server.get(token(&session), "/api/auth/me").await.problem(401);
    let again = json!({"username": "alice", "password": PASSWORD});
    server.post("", "/api/auth/login", again.clone()).await.problem(401);
    assert_eq!(server.delete(&server.admin, &path).await.status, 204);
    server.get(&server.admin, &path).await.problem(404);
    server.delete(&server.admin, &path).await.problem(404);
}

#[tokio::test]
async fn the_last_admin_stays_one() {
    let server = Server::new().await;
    let id = user(&server, "root", "Admin").await;
    let path = format!("/api/users/{id}");
    for body in [
        json!({"role": "Operator"}),
        json!({"role": "Admin", "enabled": false}),
        json!({"role": "Admin", "scope": {"device_ids": ["d1"]}}),
    ] {
        let refused = server.put(&server.admin, &path, body.clone()).await.problem(422);
        assert!(refused.contains("last admin"), "{body}: {refused}");
    }
    server.delete(&server.admin, &path).await.problem(422);
    user(&server, "other", "Admin").await;
    assert_eq!(server.delete(&server.admin, &path).await.status, 204);
}

#[tokio::test]
async fn a_user_is_made_with_a_good_name_and_password_and_once() {
    let server = Server::new().await;
    user(&server, "alice", "Viewer").await;
    let register = async |body: Value| server.post(&server.admin, "/api/auth/register", body).await;
    let with = |change: (&str, Value)| {
        let mut body = json!({"username": "bob", "password": PASSWORD, "role": "Viewer"});
        body[change.0] = change.1;
        body
    };
    register(with(("username", json!("ALICE")))).await.problem(409);
    assert_eq!(register(with(("username", json!("a b")))).await.field(), "username");
    assert_eq!(register(with(("password", json!("password1234")))).await.field(), "password");
    assert_eq!(register(with(("role", json!("root")))).await.field(), "role");
    assert_eq!(
        register(with(("scope", json!({"device_ids": ["a b"]})))).await.field(),
        "scope.device_ids"
    );
    assert_eq!(register(with(("enabled", json!(true)))).await.field(), "enabled");
    let listed = server.get(&server.admin, "/api/users").await.json();
    assert_eq!(listed["total"], 1);
    assert!(!listed.to_string().contains("argon2"), "no hash is shown");
}

#[tokio::test]
async fn a_key_is_shown_once_and_ends_when_it_should() {
    let server = Server::new().await;
    let body = json!({"name": "grafana", "role": "Viewer"});
    let made = server.post(&server.admin, "/api/keys", body).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let secret = made["secret"].as_str().expect("a secret");
    assert!(secret.starts_with("acv_"));
    assert_eq!(server.get(secret, "/api/auth/me").await.json()["username"], "grafana");
    assert!(!server.get(&server.admin, "/api/keys").await.text().contains(secret));
    assert!(!server.get(&server.admin, "/api/audit").await.text().contains(secret));
    let path = format!("/api/keys/{}", made["id"].as_str().expect("an id"));
    assert_eq!(server.delete(&server.admin, &path).await.status, 204);
    server.get(secret, "/api/auth/me").await.problem(401);
    server.delete(&server.admin, &path).await.problem(404);
    let past = json!({"name": "k", "role": "Viewer", "expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(server.post(&server.admin, "/api/keys", past).await.field(), "expires_at");
    for name in ["", "  ", "x".repeat(101).as_str()] {
        let body = json!({"name": name, "role": "Viewer"});
        assert_eq!(server.post(&server.admin, "/api/keys", body).await.field(), "name", "{name}");
    }
    let expired = acuvim_model::NewKey {
        name: "old".into(),
        role: Role::Admin,
        scope: None,
        expires_at: Some(chrono::Utc::now() - chrono::TimeDelta::seconds(1)),
    };
    let expired = server.control.create_key(&expired, &by()).await.expect("a key").secret;
    server.get(&expired, "/api/auth/me").await.problem(401);
}

#[tokio::test]
async fn lists_of_users_and_keys_are_walked_page_by_page() {
    let server = Server::new().await;
    for name in ["carol", "alice", "bob"] {
        user(&server, name, "Viewer").await;
    }
    let mut names = Vec::new();
    let mut path = "/api/users?limit=2".to_owned();
    loop {
        let page = server.get(&server.admin, &path).await.json();
        assert_eq!(page["total"], 3);
        let items = page["items"].as_array().expect("items").clone();
        names
            .extend(items.iter().map(|user| user["username"].as_str().expect("a name").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/users?limit=2&cursor={cursor}");
    }
    assert_eq!(names, ["alice", "bob", "carol"]);
    let keys = server.get(&server.admin, "/api/keys?limit=3").await.json();
    let cursor = keys["next_cursor"].as_str().expect("a full page has one");
    let rest =
        server.get(&server.admin, &format!("/api/keys?limit=3&cursor={cursor}")).await.json();
    assert_eq!(rest["items"], json!([]));
}

#[tokio::test]
async fn the_audit_says_who_did_what_from_where() {
    let server = Server::new().await;
    let request = axum::http::Request::builder()
        .method("POST")
        .uri("/api/devices")
        .header("x-api-key", &server.admin)
        .header("x-request-id", "r-1")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(r#"{"device_id":"d1"}"#))
        .expect("a request");
    assert_eq!(server.send(request).await.status, 201);
    let audit =
        async |query: &str| server.get(&server.admin, &format!("/api/audit?{query}")).await.json();
    let entry = audit("object=d1").await["items"][0].clone();
    assert_eq!((&entry["actor"], &entry["address"]), (&json!("test"), &json!("192.0.2.7")));
    assert_eq!((&entry["request"], &entry["action"]), (&json!("r-1"), &json!("device.create")));
    assert_eq!(audit("object=d1&action=device.delete").await["total"], 0);
    assert_eq!(audit("object=d1&to=2020-01-01T00:00:00Z").await["total"], 0);
    assert_eq!(audit("object=d1&from=2020-01-01T00:00:00Z").await["total"], 1);
    assert_eq!(server.get(&server.admin, "/api/audit?from=today").await.field(), "from");
}
