//! Requests that bring a session what its client sends.

use super::*;
use crate::{
    testing::{Fixture, PATIENCE, records, somebody},
    writer::Wire,
};

const HELLO: &[u8] = b"{\"protocol\":\"json\",\"version\":1}\x1e";

#[tokio::test]
async fn only_its_own_caller_reaches_a_session() {
    let (inboxes, caller) = (Inboxes::default(), Uuid::from_u128(1));
    let bytes = || Bytes::from_static(b"x");
    assert_eq!(inboxes.deliver("t", caller, bytes()).await, Delivery::Unknown);
    let inbox = inboxes.open("t", caller).expect("a token that nobody has");
    assert!(inboxes.open("t", Uuid::from_u128(2)).is_none(), "a token can't be taken over");
    assert_eq!(inboxes.deliver("t", Uuid::from_u128(2), bytes()).await, Delivery::Unknown);
    assert_eq!(inboxes.deliver("u", caller, bytes()).await, Delivery::Unknown);
    assert_eq!(inboxes.deliver("t", caller, bytes()).await, Delivery::Done);
    drop(inbox);
    assert_eq!(inboxes.deliver("t", caller, bytes()).await, Delivery::Unknown, "it has ended");
    assert!(inboxes.open("t", Uuid::from_u128(2)).is_some(), "and its token is free");
}

#[tokio::test]
async fn a_request_waits_until_a_busy_session_takes_one() {
    let (inboxes, caller) = (Inboxes::default(), Uuid::from_u128(1));
    let mut inbox = inboxes.open("t", caller).expect("an inbox");
    for _ in 0..WAITING {
        let done = inboxes.deliver("t", caller, Bytes::new()).await;
        assert_eq!(done, Delivery::Done);
    }
    let mut waiting = std::pin::pin!(inboxes.deliver("t", caller, Bytes::from_static(b"last")));
    assert!(futures::poll!(waiting.as_mut()).is_pending(), "what waits is bounded");
    inbox.receiver.recv().await.expect("the first");
    assert_eq!(waiting.await, Delivery::Done);
    inbox.receiver.recv().await.expect("the second");
    assert_eq!(inbox.receiver.recv().await.as_deref(), Some(&b"last"[..]), "in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_answers_what_was_delivered() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let subscriber = somebody(None);
    let (inboxes, caller) = (Inboxes::default(), subscriber.id);
    let mut session = Session::new(fixture.writer(subscriber, Wire::Hub).await);
    let mut inbox = inboxes.open("t", caller).expect("an inbox");
    let hello = inboxes.deliver("t", caller, Bytes::from_static(HELLO)).await;
    assert_eq!(hello, Delivery::Done);
    let answer = tokio::time::timeout(PATIENCE, inbox.next(&mut session)).await;
    let answer = answer.expect("in time").expect("the session goes on");
    assert_eq!(records(&answer), [serde_json::json!({})]);
    let broken = inboxes.deliver("t", caller, Bytes::from_static(b"{\x1e")).await;
    assert_eq!(broken, Delivery::Done);
    let ended = tokio::time::timeout(PATIENCE, inbox.next(&mut session)).await.expect("in time");
    let LastBytes(last) = ended.expect_err("the session ends");
    assert_eq!(records(&last)[0]["type"], 7);
}
