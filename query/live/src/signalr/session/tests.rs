//! A client of the hub from its handshake to its end.

use super::*;
use crate::{
    limits::LiveLimits,
    testing::{Fixture, PATIENCE, online, position, reasons, records, somebody},
    writer::Wire,
};

/// A record as a client sends it.
fn sent(value: &Value) -> Vec<u8> {
    format!("{value}\u{1e}").into_bytes()
}

fn call(method: &str, argument: Value) -> Vec<u8> {
    let arguments = Value::Array(vec![argument]);
    sent(&json!({"type": 1, "invocationId": "1", "target": method, "arguments": arguments}))
}

/// The result of a call, or its error.
async fn called(session: &mut Session, method: &str, argument: Value) -> Result<Value, String> {
    let answer = session.take(&call(method, argument)).await.expect("the session goes on");
    let mut answer = records(&answer).remove(0);
    assert_eq!((answer["type"].take(), answer["invocationId"].take()), (json!(3), json!("1")));
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["result"].take()),
    }
}

/// The last record of a session that has to end.
fn last<T: std::fmt::Debug>(ended: Result<T, LastBytes>) -> Value {
    let LastBytes(bytes) = ended.expect_err("it ends");
    records(&bytes).pop().expect("a last record")
}

async fn next(session: &mut Session) -> Vec<u8> {
    let next = tokio::time::timeout(PATIENCE, session.next()).await.expect("something comes");
    next.expect("the session goes on")
}

async fn publish(fixture: &Fixture, device: &str, offset: i64) {
    let entry = online(device, &format!("n{offset}"), Some(100 + offset));
    let message = crate::log_events::message(&fixture.live, &entry).await;
    let after = crate::position::PartitionPosition { next: offset + 1, seq: 100 + offset };
    fixture.live.hub().publish(message, 0, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_a_handshake_or_not_at_all() {
    let fixture = Fixture::new().await;
    fixture.begin();
    for (first, word) in [
        ("{\"protocol\":\"messagepack\",\"version\":1}\u{1e}", "messagepack"),
        ("{\"type\":6}\u{1e}", "handshake"),
        ("GET / HTTP/1.1\u{1e}", "handshake"),
    ] {
        let writer = fixture.writer(somebody(None), Wire::Hub).await;
        let last = last(Session::new(writer).take(first.as_bytes()).await);
        let error = last["error"].as_str().expect("an error");
        assert!(error.contains(word), "{first}: {error}");
        assert_eq!(last.get("type"), None, "a client without a handshake knows no messages yet");
    }
    // Handshake and first call may come in one piece, or in single bytes.
    let writer = fixture.writer(somebody(None), Wire::Hub).await;
    let mut session = Session::new(writer);
    let mut both = b"{\"protocol\":\"json\",\"version\":1}\x1e".to_vec();
    both.extend(call("Subscribe", json!({})));
    let mut answers = Vec::new();
    for byte in both {
        answers.extend(session.take(&[byte]).await.expect("it goes on"));
    }
    let answers = records(&answers);
    assert_eq!((answers.len(), &answers[0]), (2, &json!({})));
    assert_eq!(answers[1]["result"]["subscription"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_shakes_hands_is_let_go_of() {
    let limits = LiveLimits { handshake: Duration::from_millis(20), ..LiveLimits::default() };
    let fixture = Fixture::with(limits).await;
    fixture.begin();
    let mut session = Session::new(fixture.writer(somebody(None), Wire::Hub).await);
    let ended = tokio::time::timeout(PATIENCE, session.next()).await.expect("it ends");
    assert_eq!(last(ended), json!({"error": "no handshake came in time"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_pinged_and_then_let_go_of() {
    let limits = LiveLimits {
        grace: Duration::ZERO,
        ping: Duration::from_millis(10),
        silence: Duration::from_millis(200),
        ..LiveLimits::default()
    };
    let fixture = Fixture::with(limits).await;
    fixture.begin();
    let mut session = fixture.session(somebody(None)).await;
    assert_eq!(records(&next(&mut session).await), [json!({"type": 6})]);
    let ended = tokio::time::timeout(PATIENCE, async {
        let mut next = session.next().await;
        while next.is_ok() {
            next = session.next().await;
        }
        next
    });
    let last = last(ended.await.expect("it ends"));
    assert_eq!((last["type"].as_u64(), last["allowReconnect"].as_bool()), (Some(7), Some(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_wrong_are_answered_and_the_session_goes_on() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let mut session = fixture.session(somebody(Some(&["a"]))).await;
    for (method, argument, word) in [
        ("Publish", json!({}), "no method `Publish`"),
        ("Subscribe", json!({"device_id": "a"}), "device_id"),
        ("Subscribe", json!({"device_ids": ["b"]}), "no device `b`"),
        ("Subscribe", json!({"device_ids": ["nobody"]}), "no device `nobody`"),
        ("Subscribe", json!({"group_ids": [uuid::Uuid::nil()]}), "no group"),
        ("Subscribe", json!({"fields": ["volts"]}), "volts"),
        ("Subscribe", json!({"since": "x"}), "since"),
        ("Subscribe", json!(7), "invalid type"),
        ("Unsubscribe", json!({"devices": []}), "devices"),
    ] {
        let error = called(&mut session, method, argument).await.expect_err(method);
        assert!(error.contains(word), "{method}: {error}");
    }
    let two = json!({"type": 1, "invocationId": "1", "target": "Subscribe", "arguments": [{}, {}]});
    let answer = session.take(&sent(&two)).await.expect("it goes on");
    assert!(records(&answer)[0]["error"].as_str().expect("an error").contains("one argument"));
    let stream = json!({"type": 4, "invocationId": "9", "target": "Subscribe", "arguments": []});
    let answer = session.take(&sent(&stream)).await.expect("it goes on");
    assert_eq!(records(&answer)[0]["invocationId"], "9");
    // A call without an id waits for no answer; pings and unknown messages have none.
    for silent in [
        json!({"type": 1, "target": "subscribe", "arguments": [null]}),
        json!({"type": 1, "target": "SUBSCRIBE"}),
        json!({"type": 6}),
        json!({"type": 99}),
    ] {
        assert!(session.take(&sent(&silent)).await.expect("it goes on").is_empty(), "{silent}");
    }
    assert_eq!(session.connection().out().filters().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_ends_the_session() {
    let fixture = Fixture::new().await;
    fixture.begin();
    for (record, reason) in
        [("{", "not a message"), ("{\"type\":1}", "without a target"), ("[]", "not a message")]
    {
        let mut session = fixture.session(somebody(None)).await;
        let last = last(session.take(format!("{record}\u{1e}").as_bytes()).await);
        assert!(last["error"].as_str().expect("an error").contains(reason), "{last}");
        assert_eq!((&last["type"], &last["allowReconnect"]), (&json!(7), &json!(false)));
    }
    let mut session = fixture.session(somebody(None)).await;
    let last = last(session.take(&sent(&json!({"type": 7}))).await);
    assert_eq!(last, json!({"type": 7, "allowReconnect": false}), "it asked for that itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_records_and_too_many_of_them_end_the_session() {
    let limits = LiveLimits { record_bytes: 2048, records_per_second: 1, ..LiveLimits::default() };
    let fixture = Fixture::with(limits).await;
    fixture.begin();
    let mut session = fixture.session(somebody(None)).await;
    let last_of_large = last(session.take(&[b'x'; 2049]).await);
    assert!(last_of_large["error"].as_str().expect("an error").contains("2 KB"), "{last_of_large}");
    // The handshake was the first of ten at once.
    let mut session = fixture.session(somebody(None)).await;
    let ping = sent(&json!({"type": 6}));
    session.take(&ping.repeat(9)).await.expect("nine more");
    let last = last(session.take(&ping.repeat(9)).await);
    assert!(last["error"].as_str().expect("an error").contains("too many messages"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_replaces_what_everybody_gets() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let mut session = fixture.session(fixture.key(None).await).await;
    publish(&fixture, "b", 0).await;
    publish(&fixture, "a", 1).await;
    let answer = called(&mut session, "Subscribe", json!({"device_ids": ["a"], "positions": true}));
    let answer = answer.await.expect("subscribed");
    assert_eq!(answer["position"], position([0, 0]).encode(), "where the connection began");
    publish(&fixture, "b", 2).await;
    publish(&fixture, "a", 3).await;
    let bytes = next(&mut session).await;
    assert_eq!(reasons(&bytes), ["n1", "n3"], "also of what waited already");
    let end = records(&bytes).pop().expect("a position");
    let mut at = position([4, 0]);
    at.partitions[0].seq = 103;
    assert_eq!(
        (&end["target"], &end["arguments"]),
        (&json!("EventsPosition"), &json!([at.encode()]))
    );
    assert_eq!(
        called(&mut session, "Unsubscribe", json!({})).await,
        Ok(json!({"subscriptions": 0}))
    );
    publish(&fixture, "a", 4).await;
    assert!(!session.connection().out().has_events());
    let waits = tokio::time::timeout(Duration::from_millis(1), session.next()).await;
    waits.expect_err("the session goes on, and nothing comes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_with_its_first_subscription_even_if_that_was_refused_before() {
    let limits =
        LiveLimits { subscribed_devices: 1, grace: Duration::ZERO, ..LiveLimits::default() };
    let fixture = Fixture::with(limits).await;
    let entries = (0..3).map(|n| online("a", &format!("n{n}"), Some(100 + n))).collect();
    fixture.store(0, entries).await;
    fixture.live.hub().begin(position([3, 0]));
    let mut session = fixture.session(somebody(None)).await;
    let since = position([1, 0]).encode();
    let many = json!({"device_ids": ["a", "b"], "since": since});
    let error = called(&mut session, "Subscribe", many).await.expect_err("too many devices");
    assert!(error.contains("up to 1 devices"), "{error}");
    // The client does as it was told, from the same position.
    let one = json!({"device_ids": ["a"], "since": since});
    called(&mut session, "Subscribe", one.clone()).await.expect("its first subscription");
    assert_eq!(reasons(&next(&mut session).await), ["n1", "n2"]);
    let error = called(&mut session, "Subscribe", one).await.expect_err("its second");
    assert!(error.contains("first subscription"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_says_why_before_and_after_the_handshake() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let mut greeted = fixture.session(somebody(None)).await;
    let mut silent = Session::new(fixture.writer(somebody(None), Wire::Hub).await);
    fixture.live.hub().close_all(&Closing::again("the server is stopping"));
    let reason = json!("the server is stopping");
    assert_eq!(
        last(greeted.next().await),
        json!({"type": 7, "allowReconnect": true, "error": reason})
    );
    assert_eq!(last(silent.next().await), json!({"error": reason}));
}

#[test]
fn an_argument_may_be_absent_and_only_one_may_be_there() {
    let parsed = |arguments: Vec<Value>| argument::<Unsubscribe>(arguments).map(|u| u.device_ids);
    assert_eq!(parsed(vec![]), Ok(vec![]));
    assert_eq!(parsed(vec![Value::Null]), Ok(vec![]));
    assert_eq!(parsed(vec![json!({"device_ids": ["a"]})]), Ok(vec!["a".to_owned()]));
    parsed(vec![json!({}), Value::Null]).expect_err("two");
    parsed(vec![json!("a")]).expect_err("no object");
}
