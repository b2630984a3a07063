//! Server-sent events: filters, scopes, and resuming after an interruption.

use serde_json::{Value, json};

use super::client::{QUIET, Sent, Stream};
use crate::{
    harness::{Server, reading},
    rules::body,
};

fn alert(ts: i64, kind: &str) -> String {
    json!({"ts": ts, "type": kind, "severity": "critical", "message": "as it says"}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_goes_on_with_every_event_once() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &[]).await;
    let devices = ["d1", "d2", "d3", "d4", "d5"];
    let talk = server.device("talk").await;
    let query = "&types=AlertCreated";
    let mut stream = Stream::open(&server, query, None).await;
    assert_eq!(stream.status, 200);
    let ts = chrono::Utc::now().timestamp_millis();
    let (total, mut got) = (120, Vec::<String>::new());
    let publishing = async {
        for n in 0..total {
            let topic = format!("acuvim/{}/alerts", devices[n % devices.len()]);
            let text = alert(ts + n as i64, &format!("kind_{n}"));
            talk.publish(&topic, text, false).await.expect("ack");
        }
    };
    let reading = async {
        let mut until_cut = 1;
        while got.len() < total {
            let sent = stream.next().await.expect("an event");
            assert_eq!(sent.event, "AlertCreated");
            got.push(sent.data["alert"]["alert_type"].as_str().expect("a type").to_owned());
            until_cut -= 1;
            if until_cut == 0 && got.len() < total {
                // At any point, also in the middle of a replay.
                let last = stream.last.clone().expect("an id");
                stream = Stream::open(&server, query, Some(&last)).await;
                until_cut = 1 + got.len() % 17;
            }
        }
        assert!(tokio::time::timeout(QUIET, stream.next()).await.is_err(), "nothing twice");
    };
    tokio::join!(publishing, reading);
    let mut sorted: Vec<String> = got.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), total, "each once: {got:?}");
    for (place, device) in devices.iter().enumerate() {
        let numbers: Vec<usize> = got
            .iter()
            .filter_map(|kind| kind.strip_prefix("kind_")?.parse().ok())
            .filter(|n: &usize| n % devices.len() == place)
            .collect();
        assert!(numbers.is_sorted(), "{device}: {numbers:?}");
    }

    // A stream without events resumes at its beginning; one with an unknown position is told about a gap.
    let mut fresh = Stream::open(&server, query, None).await;
    assert!(tokio::time::timeout(QUIET, fresh.next()).await.is_err());
    let begun = fresh.last.clone().expect("the id of its beginning");
    drop(fresh);
    talk.publish("acuvim/d1/alerts", alert(ts + 1000, "kind_late"), false).await.expect("ack");
    let mut again = Stream::open(&server, query, Some(&begun)).await;
    assert_eq!(again.next().await.expect("an event").data["alert"]["alert_type"], "kind_late");
    let mut lost = Stream::open(&server, query, Some("no-position")).await;
    let told = lost.next().await.expect("an event");
    assert_eq!(told.event, "EventsDropped");
    assert!(told.data["gap"].as_str().expect("why").contains("ask the API"), "{told:?}");
    assert!(tokio::time::timeout(QUIET, lost.next()).await.is_err());
    assert!(lost.last.is_some(), "from where it goes on: it is told of the gap once");

    // A quiet stream sends its position, which moves over events that are not for it.
    let mut quiet = Stream::open(&server, "&types=AlertCreated&device_id=d5", None).await;
    assert!(tokio::time::timeout(QUIET, quiet.next()).await.is_err());
    let begun = quiet.last.clone();
    talk.publish("acuvim/d1/alerts", alert(ts + 2000, "kind_other"), false).await.expect("ack");
    let moved = async {
        while quiet.last == begun {
            assert!(tokio::time::timeout(QUIET, quiet.next()).await.is_err(), "of another");
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), moved).await.expect("a place");
    let place = quiet.last.clone().expect("a place");
    drop(quiet);
    talk.publish("acuvim/d5/alerts", alert(ts + 3000, "kind_own"), false).await.expect("ack");
    let mut again = Stream::open(&server, query, Some(&place)).await;
    let next = again.next().await.expect("an event");
    assert_eq!(next.data["alert"]["alert_type"], "kind_own", "and nothing before");
    server.stop().await;
}

async fn next_of(stream: &mut Stream, event: &str) -> Sent {
    loop {
        let sent = stream.next().await.expect("an event");
        if sent.event == event {
            return sent;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_filtered_thinned_and_scoped() {
    let dir = tempfile::tempdir().expect("dir");
    let server = Server::start(dir.path(), &["live.check_seconds=1"]).await;
    let talk = server.device("talk").await;
    let ts = chrono::Utc::now().timestamp_millis();
    for device in ["mine", "other"] {
        let topic = format!("acuvim/{device}/telemetry");
        talk.publish(&topic, reading(ts), false).await.expect("ack");
        crate::fleet::until(&server, &format!("/api/devices/{device}/telemetry"), |_| true).await;
    }
    let one = "&device_id=mine&fields=frequency_hz&types=TelemetryReceived";
    let mut fields = Stream::open(&server, one, None).await;
    let mut thin = Stream::open(&server, "&device_id=mine&max_rate=0.01", None).await;
    let key = json!({"name": "k", "role": "Viewer", "scope": {"device_ids": ["mine"]}});
    let key = body(server.post("/api/keys", &key).await, 201).await;
    let key = key["secret"].as_str().expect("a secret");
    let url = format!("{}/api/events?device_id=other", server.http);
    let refused = server.client.get(url).header("x-api-key", key).send().await.expect("answer");
    let refused = body(refused, 400).await;
    assert!(refused["detail"].as_str().expect("text").contains("no device `other`"), "{refused}");
    let mut scoped = Stream::with_token(&server, key, "").await;
    for n in 1..=5 {
        for device in ["other", "mine"] {
            let topic = format!("acuvim/{device}/telemetry");
            talk.publish(&topic, reading(ts + n * 1000), false).await.expect("ack");
        }
        let sent = next_of(&mut fields, "TelemetryReceived").await;
        assert_eq!(sent.id, None, "nobody goes on behind a reading");
        assert_eq!(sent.data["data"]["data"], json!({"frequency_hz": 50.01}), "{sent:?}");
    }
    let first = next_of(&mut thin, "TelemetryReceived").await;
    assert_eq!(first.data["device_id"], "mine");
    let more = tokio::time::timeout(QUIET, next_of(&mut thin, "TelemetryReceived")).await;
    assert!(more.is_err(), "one in 100 s: {more:?}");
    talk.publish("acuvim/other/alerts", alert(ts, "theirs"), false).await.expect("ack");
    talk.publish("acuvim/mine/alerts", alert(ts, "ours"), false).await.expect("ack");
    let seen = next_of(&mut scoped, "AlertCreated").await;
    assert_eq!(seen.data["device_id"], "mine", "{seen:?}");
    // Its scope changes while it is connected.
    let id = server.get("/api/keys").await.json::<Value>().await.expect("keys")["items"][0]["id"]
        .clone();
    let path = format!("/api/keys/{}", id.as_str().expect("an id"));
    assert_eq!(crate::rules::delete(&server, &path).await, 204);
    while let Some(sent) = scoped.next().await {
        assert_ne!(sent.data["device_id"], "other");
    }
    for bad in ["&types=Nonsense", "&max_rate=0", "&group_id=x", "&nonsense=1", "&fields=volts"] {
        assert_eq!(Stream::open(&server, bad, None).await.status, 400, "{bad}");
    }
    server.stop().await;
}
