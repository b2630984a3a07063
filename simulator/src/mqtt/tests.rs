//! The connection against a broker that does what the test wants.

use super::*;
use crate::testing::{Broker, Session};

/// A connection and the broker's side of it.
async fn connected() -> (Connection, Session) {
    let broker = Broker::start().await;
    let options = broker.options();
    let (opened, (session, _)) = tokio::join!(Connection::open(&options), broker.accept(0));
    (opened.expect("a connection"), session)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("in time")
}

#[tokio::test]
async fn acknowledgements_find_their_message_in_any_order() {
    let (connection, mut session) = connected().await;
    let mut waiting = Vec::new();
    let mut sent = Vec::new();
    for payload in ["a", "b", "c"] {
        waiting.push(connection.send("t", payload, false).await.expect("queued"));
        sent.push(soon(session.published()).await);
    }
    let payloads: Vec<&str> = sent.iter().map(|message| message.payload.as_str()).collect();
    assert_eq!(payloads, ["a", "b", "c"]);
    for n in [2, 0] {
        session.acknowledge(&sent[n]).await;
        soon(&mut waiting[n]).await.expect("acknowledged");
    }
    assert!(waiting[1].try_recv().is_err(), "nobody has acknowledged the second one");
    session.acknowledge(&sent[1]).await;
    soon(&mut waiting[1]).await.expect("acknowledged");
}

/// A message with QoS 0 has no packet id, and must not be taken for one that waits for its own.
#[tokio::test]
async fn a_message_without_acknowledgement_shifts_no_other() {
    let (connection, mut session) = connected().await;
    let mut first = connection.send("t", "first", false).await.expect("queued");
    connection.forget("t", "forgotten").await.expect("queued");
    let mut last = connection.send("t", "last", true).await.expect("queued");
    let sent = [
        soon(session.published()).await,
        soon(session.published()).await,
        soon(session.published()).await,
    ];
    let ids: Vec<bool> = sent.iter().map(|message| message.id.is_some()).collect();
    assert_eq!(ids, [true, false, true]);
    assert_eq!((sent[0].retained, sent[2].retained), (false, true));
    session.acknowledge(&sent[2]).await;
    soon(&mut last).await.expect("acknowledged");
    assert!(first.try_recv().is_err());
}

#[tokio::test]
async fn a_refused_login_says_why_and_a_port_without_a_broker_too() {
    let broker = Broker::start().await;
    let options = broker.options();
    for (code, want) in
        [(4, ConnectReturnCode::BadUserNamePassword), (5, ConnectReturnCode::NotAuthorized)]
    {
        let (opened, _) = tokio::join!(Connection::open(&options), broker.accept(code));
        let refused = opened.expect_err("refused");
        assert!(matches!(refused, Error::Refused(code) if code == want), "{refused}");
    }
    drop(broker);
    let error = Connection::open(&options).await.expect_err("nobody there");
    assert!(matches!(error, Error::Broken(_)), "{error}");
}

/// A device sends again what was not acknowledged. So it must be told, and not wait for ever.
#[tokio::test]
async fn a_connection_that_breaks_ends_everybody_who_waits() {
    let (connection, mut session) = connected().await;
    let waiting = [
        connection.send("t", "a", false).await.expect("queued"),
        connection.send("t", "b", false).await.expect("queued"),
    ];
    soon(session.published()).await;
    drop(session);
    for waiting in waiting {
        assert!(soon(waiting).await.is_err(), "it was not acknowledged");
    }
    for _ in 0..3 {
        let later = soon(connection.publish("t", "c", false)).await;
        assert!(matches!(later, Err(Error::Broken(_))), "{later:?}");
    }
}

#[tokio::test]
async fn login_and_will_are_in_the_connect() {
    let broker = Broker::start().await;
    let plain = broker.options();
    let full = ConnectOptions {
        login: Some(("user-1".into(), "secret-1".into())),
        will: Some(("acuvim/d1/status".into(), "offline".into())),
        ..plain.clone()
    };
    // Retained will of QoS 1, user name and password, clean session (MQTT 3.1.1, section 3.1.2.3).
    for (options, flags) in [(&plain, 0b0000_0010), (&full, 0b1110_1110)] {
        let (opened, (_session, connect)) =
            tokio::join!(Connection::open(options), broker.accept(0));
        opened.expect("a connection");
        assert_eq!(connect[7], flags, "{:08b}", connect[7]);
        let text = String::from_utf8_lossy(&connect);
        let is_full = flags != 0b10;
        for part in ["acuvim/d1/status", "offline", "user-1", "secret-1"] {
            assert_eq!(text.contains(part), is_full, "{part}");
        }
    }
}

/// A broker publishes the last will of a connection that ends without DISCONNECT.
#[tokio::test]
async fn only_a_proper_end_says_goodbye() {
    let (connection, mut session) = connected().await;
    tokio::join!(connection.close(), async {
        assert_eq!(soon(session.packet()).await, Some((0xe0, Vec::new())), "DISCONNECT");
    });
    let (connection, mut session) = connected().await;
    drop(connection);
    assert_eq!(soon(session.packet()).await, None);
}

#[tokio::test]
async fn messages_on_the_subscribed_topic_arrive_in_order() {
    let broker = Broker::start().await;
    let subscribe = Some("acuvim/d1/cmd".to_owned());
    let options = ConnectOptions { subscribe, ..broker.options() };
    let (opened, (mut session, _)) = tokio::join!(Connection::open(&options), broker.accept(0));
    let mut connection = opened.expect("a connection");
    let (first, body) = soon(session.packet()).await.expect("a packet");
    assert_eq!((first, &body[4..17], body[17]), (0x82, &b"acuvim/d1/cmd"[..], 1), "QoS 1");
    session.send(&[0x90, 3, body[0], body[1], 1]).await;
    for n in 0..3 {
        session.publish("acuvim/d1/cmd", &format!("{n}")).await;
    }
    for n in 0..3 {
        let (topic, payload) = soon(connection.messages.recv()).await.expect("a message");
        assert_eq!((topic.as_str(), payload), ("acuvim/d1/cmd", n.to_string().into_bytes()));
    }
}
