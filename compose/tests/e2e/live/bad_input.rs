//! Clients that break the protocol: each gets the protocol's own answer, and no other client is affected.

use serde_json::{Value, json};

use super::client::{Raw, frame};
use crate::{
    harness::{Server, resident_mb},
    rules::{body, delete},
};
use tokio::io::AsyncWriteExt as _;

fn call(id: &str, method: &str, arguments: &Value) -> String {
    let call = json!({"type": 1, "invocationId": id, "target": method, "arguments": arguments});
    format!("{call}\u{1e}")
}

/// The completion of a call.
async fn answer(raw: &mut Raw, id: &str, method: &str, arguments: Value) -> Value {
    raw.say(&call(id, method, &arguments)).await;
    loop {
        let text = raw.hear().await.expect("an answer");
        for record in text.split_terminator('\u{1e}') {
            let record: Value = serde_json::from_str(record).expect("JSON");
            if record["invocationId"] == id {
                assert_eq!(record["type"], 3);
                return record;
            }
        }
    }
}

fn reason(last_words: &str) -> (String, bool) {
    let record = last_words.trim_end_matches('\u{1e}').rsplit('\u{1e}').next().unwrap_or_default();
    let record: Value =
        serde_json::from_str(record).unwrap_or_else(|e| panic!("{last_words}: {e}"));
    let again = record["allowReconnect"].as_bool().unwrap_or(false);
    (record["error"].as_str().unwrap_or_default().to_owned(), again)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_clients_are_answered_or_closed_and_others_untouched() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["live.check_seconds=1"]).await;
    let talk = server.device("talk").await;
    talk.publish("acuvim/mine/status", "online", false).await.expect("ack");
    talk.publish("acuvim/other/status", "online", false).await.expect("ack");
    crate::fleet::until(&server, "/api/devices/other", |_| true).await;
    let mut good = Raw::greeted(&server).await;
    let subscribed = answer(&mut good, "1", "Subscribe", json!([{"device_ids": ["mine"]}])).await;
    assert_eq!(subscribed["result"]["subscription"], 1, "{subscribed}");
    let before = resident_mb(server.pid());

    // Connections without permission.
    let path = format!("/hubs/devices?access_token={}", server.token().await);
    let origin = "Origin: https://evil.example\r\n";
    assert_eq!(Raw::open(&server.http, &path, origin).await.err(), Some(403));
    assert_eq!(Raw::open(&server.http, "/hubs/devices?access_token=x", "").await.err(), Some(401));
    assert_eq!(Raw::open(&server.http, "/hubs/devices", "").await.err(), Some(401));
    let plain = server.client.get(format!("{}{path}", server.http)).send().await.expect("answer");
    assert_eq!(plain.status(), 400);
    let nobody = server.client.post(format!("{}{path}&id=nobody", server.http)).body("{}");
    assert_eq!(nobody.send().await.expect("answer").status(), 404);

    // Handshakes.
    let mut silent = Raw::open(&server.http, &path, "").await.expect("an upgrade");
    for (bad, said) in [
        ("{\"protocol\":\"messagepack\",\"version\":1}\u{1e}", "messagepack"),
        ("{\"type\":6}\u{1e}", "handshake"),
        ("nonsense\u{1e}", "handshake"),
    ] {
        let mut raw = Raw::open(&server.http, &path, "").await.expect("an upgrade");
        raw.say(bad).await;
        let (error, _) = reason(&raw.last_words().await);
        assert!(error.contains(said), "{bad}: {error}");
    }

    // Calls.
    let mut raw = Raw::greeted(&server).await;
    for (method, arguments, said) in [
        ("Nonsense", json!([]), "no method `Nonsense`"),
        ("Subscribe", json!([{"device_id": "mine"}]), "unknown field `device_id`"),
        ("Subscribe", json!(["mine"]), "invalid type"),
        ("Subscribe", json!([{}, {}]), "one argument"),
        ("Subscribe", json!([{"max_rate": -1}]), "max_rate"),
        ("Subscribe", json!([{"since": "x"}]), "not a position"),
        ("Subscribe", json!([{"group_ids": [uuid::Uuid::nil()]}]), "no group"),
        ("Unsubscribe", json!([{"all": true}]), "unknown field `all`"),
    ] {
        let refused = answer(&mut raw, "7", method, arguments.clone()).await;
        let error = refused["error"].as_str().expect("an error");
        assert!(error.contains(said), "{method} {arguments}: {error}");
    }
    let many: Vec<String> = (0..1100).map(|n| format!("device-{n}")).collect();
    let refused = answer(&mut raw, "8", "Subscribe", json!([{"device_ids": many}])).await;
    assert!(refused["error"].as_str().expect("an error").contains("up to 1000"), "{refused}");
    raw.say("{\"type\":4,\"invocationId\":\"9\",\"target\":\"Stream\"}\u{1e}").await;
    assert!(raw.hear().await.expect("an answer").contains("not a method that streams"));
    raw.say("{\"type\":99}\u{1e}{\"type\":6}\u{1e}").await;
    raw.say("{\"type\":\u{1e}").await;
    assert!(reason(&raw.last_words().await).0.contains("not a message"));

    // Sizes and rates.
    let mut raw = Raw::greeted(&server).await;
    raw.say(&"x".repeat(20_000)).await;
    raw.say(&"x".repeat(20_000)).await;
    assert!(reason(&raw.last_words().await).0.contains("larger than 32 KB"));
    let mut raw = Raw::greeted(&server).await;
    let _ = raw.socket.write_all(&frame(&vec![b'x'; 300_000])).await;
    raw.last_words().await;
    let mut raw = Raw::greeted(&server).await;
    for n in 0..10_000 {
        raw.say(&call(&n.to_string(), "Subscribe", &json!([{"device_ids": ["mine"]}]))).await;
    }
    // Its last record may be lost together with what it has not read.
    let mut answered = 0;
    while let Some(text) = raw.hear().await {
        answered += text.matches("\"type\":3").count();
    }
    assert!((20..500).contains(&answered), "{answered} of 10,000 calls were answered");

    scopes_and_ends(&server).await;

    let (error, _) = reason(&silent.last_words().await);
    assert_eq!(error, "no handshake came in time");
    talk.publish("acuvim/mine/alerts", "{\"ts\":1795459200000,\"type\":\"t\"}", false)
        .await
        .expect("ack");
    while !good.hear().await.expect("an event").contains("AlertCreated") {}
    let grown = resident_mb(server.pid()).saturating_sub(before);
    assert!(grown < 100, "{grown} MB more");
    server.stop().await;
}

/// Keys with a scope, and connections whose permission ends.
async fn scopes_and_ends(server: &Server) {
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(4);
    let scope = json!({"device_ids": ["mine"]});
    let key = |name: &str, ends: Value| json!({"name": name, "role": "Viewer", "scope": scope, "expires_at": ends});
    let short = body(server.post("/api/keys", &key("short", json!(soon))).await, 201).await;
    let long = body(server.post("/api/keys", &key("long", Value::Null)).await, 201).await;
    let mut open = Vec::new();
    for key in [&short, &long] {
        let secret = key["secret"].as_str().expect("a secret");
        let path = format!("/hubs/devices?access_token={secret}");
        let mut raw = Raw::open(&server.http, &path, "").await.expect("an upgrade");
        raw.say("{\"protocol\":\"json\",\"version\":1}\u{1e}").await;
        raw.hear().await.expect("a greeting");
        let other = json!([{"device_ids": ["mine", "other"]}]);
        let refused = answer(&mut raw, "1", "Subscribe", other).await;
        assert_eq!(refused["error"], "there is no device `other`");
        open.push(raw);
    }
    let path = format!("/api/keys/{}", long["id"].as_str().expect("an id"));
    assert_eq!(delete(server, &path).await, 204);
    let (error, again) = reason(&open[1].last_words().await);
    assert!(error.contains("log in again") && !again, "{error}");
    let (error, _) = reason(&open[0].last_words().await);
    assert!(error.contains("expired") || error.contains("log in again"), "{error}");
    // A changed password ends every connection of the user.
    let user = json!({"username": "eve", "password": "a long enough password", "role": "Viewer"});
    let made = body(server.post("/api/auth/register", &user).await, 201).await;
    let login = json!({"username": "eve", "password": "a long enough password"});
    let token = body(server.post("/api/auth/login", &login).await, 200).await;
    let path =
        format!("/hubs/devices?access_token={}", token["access_token"].as_str().expect("it"));
    let mut raw = Raw::open(&server.http, &path, "").await.expect("an upgrade");
    raw.say("{\"protocol\":\"json\",\"version\":1}\u{1e}").await;
    raw.hear().await.expect("a greeting");
    let path = format!("/api/users/{}", made["id"].as_str().expect("an id"));
    assert_eq!(delete(server, &path).await, 204);
    assert!(reason(&raw.last_words().await).0.contains("log in again"));
}
