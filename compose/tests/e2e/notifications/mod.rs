//! Notifications by webhook and mail arrive whatever happens to the receiver or to us.

mod receiver;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::receiver::{Mailbox, Receiver};
use crate::{fleet::until, harness::Server, rules::body};

const QUICK: [&str; 4] = [
    "notifications.allow_networks=127.0.0.1",
    "notifications.retry_seconds=1",
    "health_monitor.check_interval_seconds=1",
    "alerts.check_interval_seconds=1",
];

fn alert(kind: &str, state: &str) -> String {
    let ts = chrono::Utc::now().timestamp_millis();
    json!({"ts": ts, "type": kind, "severity": "critical", "message": "it is hot", "state": state})
        .to_string()
}

async fn make(server: &Server, change: Value) -> Value {
    let mut whole = json!({"name": "Night", "kind": "webhook", "group_seconds": 1});
    for (key, value) in change.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    body(server.post("/api/notifications", &whole).await, 201).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_was_down_gets_every_message_once_it_is_back() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &QUICK).await;
    // A port without a listener, for now.
    let at = Receiver::listen("127.0.0.1:0", "200 OK").await.at;
    let url = format!("http://{at}/hook?key=1");
    let runbook = "https://wiki.example/{alert_type}";
    // Long enough that even a busy machine sends all five alerts within it.
    let made = make(&server, json!({"url": url, "runbook_url": runbook, "group_seconds": 6})).await;
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    let path = format!("/api/notifications/{}", made["id"].as_str().expect("an id"));
    let shown = until(&server, &path, |_| true).await;
    assert_eq!(shown["secret"], Value::Null, "it is shown once");
    let deliveries = format!("{path}/deliveries");

    let talk = server.device("talk").await;
    for device in ["a", "b", "c", "d", "e"] {
        let topic = format!("acuvim/{device}/alerts");
        talk.publish(&topic, alert("hot", "raised"), false).await.expect("ack");
        talk.publish(&topic, alert("hot", "raised"), false).await.expect("ack");
    }
    let tried = |json: &Value| json["items"][0]["attempts"].as_i64().unwrap_or(0) >= 2;
    let list = until(&server, &deliveries, tried).await;
    assert_eq!(list["items"][0]["state"], "waiting", "{list:#}");
    assert!(list["items"][0]["answer"].as_str().expect("why").contains("refused"), "{list:#}");
    // Waiting messages survive a restart.
    server.kill();
    let server = Server::start(dir.path(), &QUICK).await;
    let receiver = Receiver::listen(&at.to_string(), "204 No Content").await;
    let call = receiver.until(|call| call.body["type"] == "raised").await;
    assert!(call.is_signed(&secret), "{call:#?}");
    assert_eq!(call.headers["webhook-id"], call.body["id"].as_str().expect("an id"));
    assert_eq!((&call.body["count"], &call.body["truncated"]), (&json!(5), &json!(false)));
    assert_eq!(call.body["title"], "5 alerts: hot");
    assert_eq!(call.body["runbook_url"], "https://wiki.example/hot");
    let devices: BTreeSet<&str> = call.body["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["alert"]["device_id"].as_str())
        .collect();
    assert_eq!(devices, BTreeSet::from(["a", "b", "c", "d", "e"]));

    // The end of an episode is notified, and nothing of a silenced one.
    let silence = json!({"alert_types": ["cold"], "reason": "works",
        "until": chrono::Utc::now() + chrono::TimeDelta::hours(1)});
    body(server.post("/api/silences", &silence).await, 201).await;
    let talk = server.device("talk").await;
    talk.publish("acuvim/a/alerts", alert("cold", "raised"), false).await.expect("ack");
    talk.publish("acuvim/a/alerts", alert("hot", "cleared"), false).await.expect("ack");
    let over = receiver.until(|call| call.body["type"] == "recovered").await;
    assert_eq!(over.body["items"][0]["alert"]["device_id"], "a");
    talk.publish("acuvim/b/alerts", alert("wet", "raised"), false).await.expect("ack");
    receiver.until(|call| call.body["items"][0]["alert"]["alert_type"] == "wet").await;
    let ids: BTreeSet<String> = receiver.all().iter().map(|c| c.body["id"].to_string()).collect();
    assert_eq!(ids.len(), 3, "one message for each: {:#?}", receiver.all());
    let list = until(&server, &deliveries, |json| {
        json["items"].as_array().is_some_and(|all| all.iter().all(|d| d["state"] == "delivered"))
    });
    assert_eq!(list.await["total"], 3);
    let tested = body(server.post(&format!("{path}/test"), &json!({})).await, 200).await;
    assert_eq!((&tested["state"], &tested["kind"]), (&json!("delivered"), &json!("test")));
    receiver.until(|call| call.body["type"] == "test").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_reach_no_private_address_by_name_or_redirect_either() {
    let dir = tempfile::tempdir().expect("dir");
    let inner = Receiver::listen("127.0.0.2:0", "200 OK").await;
    let here = format!("302 Found\r\nLocation: http://{}/inner", inner.at);
    let redirecting = Receiver::listen("127.0.0.1:0", &here).await;
    let test = async |server: &Server, made: &Value| {
        let path = format!("/api/notifications/{}/test", made["id"].as_str().expect("an id"));
        body(server.post(&path, &json!({})).await, 200).await
    };
    // Private addresses are refused in every spelling, and also behind a name.
    let server = Server::start(dir.path(), &[]).await;
    let port = inner.at.port();
    for host in [
        "127.0.0.2",
        "127.2",
        "0x7f000002",
        "2130706434",
        "[::1]",
        "[::ffff:127.0.0.2]",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let asked =
            json!({"name": "n", "kind": "webhook", "url": format!("http://{host}:{port}/")});
        let refused = body(server.post("/api/notifications", &asked).await, 400).await;
        assert_eq!(refused["errors"][0]["field"], "url", "{host}: {refused}");
    }
    let named = make(&server, json!({"url": format!("http://localhost:{port}/")})).await;
    let outcome = test(&server, &named).await;
    assert_eq!(outcome["state"], "waiting", "{outcome}");
    let answer = outcome["answer"].as_str().expect("why");
    assert!(answer.contains("localhost leads to") && answer.contains("not a public"), "{answer}");
    server.stop().await;
    // An allowed address that redirects to another: the redirect is not followed.
    let server = Server::start(dir.path(), &QUICK).await;
    let url = format!("http://{}/", redirecting.at);
    let outcome = test(&server, &make(&server, json!({"name": "r", "url": url})).await).await;
    assert_eq!(outcome["state"], "waiting", "{outcome}");
    assert!(outcome["answer"].as_str().expect("why").contains("redirects are not followed"));
    assert_eq!(redirecting.all().len(), 1);
    assert!(inner.all().is_empty(), "nobody went there");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_tell_of_offline_devices_and_of_a_disk_that_fills_up() {
    let dir = tempfile::tempdir().expect("dir");
    // The warning comes at twice the space that the log keeps free.
    let disk = rustix::fs::statvfs(dir.path()).expect("a disk");
    let free_mb = (disk.f_bavail * disk.f_frsize) >> 20;
    let nearly_full = format!("log.min_free_mb={}", free_mb * 3 / 4);
    let mut mailbox = Mailbox::open();
    let smtp = format!("notifications.smtp_url=smtp://127.0.0.1:{}", mailbox.port);
    let mut set = QUICK.to_vec();
    set.extend([
        smtp.as_str(),
        "notifications.smtp_from=Acuvim <acuvim@example.org>",
        "log.partitions=1",
        "lake.flush_interval_ms=300",
    ]);
    let server = Server::start(dir.path(), &set).await;
    let to = json!({"kind": "email", "to": ["ops@example.org", "boss@example.org"],
        "topics": ["offline", "system"]});
    let test = async |to| {
        let made = make(&server, to).await;
        let path = format!("/api/notifications/{}/test", made["id"].as_str().expect("an id"));
        body(server.post(&path, &json!({})).await, 200).await
    };
    let tested = test(to).await;
    assert_eq!(tested["state"], "delivered", "{tested}");
    let mail = mailbox.next().await;
    assert_eq!(mail["to"], json!(["ops@example.org", "boss@example.org"]));
    assert_eq!(
        (&mail["from"], &mail["subject"]),
        (&json!("acuvim@example.org"), &json!("A test of this notification"))
    );

    let to = json!({"name": "one is gone", "kind": "email", "topics": ["rollouts"],
        "to": ["gone@example.org", "ops@example.org"]});
    let tested = test(to).await;
    assert_eq!(tested["state"], "delivered", "one mailbox does not stop the others: {tested}");
    assert!(tested["answer"].as_str().expect("text").contains("not to gone@"), "{tested}");
    assert_eq!(mailbox.next().await["to"], json!(["ops@example.org"]));

    server.stop().await;
    set.push(nearly_full.as_str());
    let mut server = Server::start(dir.path(), &set).await;
    server.expect("disk");
    let mail = mailbox.next().await;
    assert!(mail["subject"].as_str().expect("text").starts_with("critical: "), "{mail}");
    assert!(mail["text"].as_str().expect("text").contains("Night"), "{mail}");
    let talk = server.device("talk").await;
    talk.publish("acuvim/d/status", "online", false).await.expect("ack");
    talk.publish("acuvim/d/status", "offline", false).await.expect("ack");
    let mail = mailbox.next().await;
    assert!(mail["subject"].as_str().expect("text").contains("d is offline"), "{mail}");
    assert!(mail["text"].as_str().expect("text").contains("- d is offline"), "{mail}");
    talk.publish("acuvim/d/status", "online", false).await.expect("ack");
    let mail = mailbox.next().await;
    assert!(mail["subject"].as_str().expect("text").starts_with("Over: d is offline"), "{mail}");
    server.stop().await;
}
