//! Waiting for what is due.

use super::*;
use crate::{
    event::{EventKind, EventMessage},
    outbound::{EventFilter, QueueLimits},
    testing::{PATIENCE, somebody},
};

fn connection(interval: Duration) -> Arc<Connection> {
    let limits = QueueLimits { events: 9, bytes: 999, readings: 9, subscriptions: 9, devices: 9 };
    let filter = EventFilter { whole: true, interval, ..EventFilter::default() };
    let out = Outbound::new(limits, None, filter);
    Arc::new(Connection::new(1, somebody(None), StreamPosition::default(), out))
}

fn reading(device: &str) -> Vec<Arc<Reading>> {
    vec![Arc::new(Reading::heartbeat(device.into(), "{}".to_owned()))]
}

fn event() -> Arc<LiveEvent> {
    let message =
        EventMessage { kind: EventKind::AlertCreated, device: Some("a".into()), arguments: vec![] };
    Arc::new(LiveEvent::new(message, StreamPosition::default(), EventOffset::default()))
}

#[tokio::test]
async fn an_event_wakes_whoever_waits_for_it() {
    let connection = connection(Duration::ZERO);
    let waiting = {
        let connection = Arc::clone(&connection);
        tokio::spawn(async move { connection.next(10).await.len() })
    };
    tokio::task::yield_now().await;
    assert!(connection.offer(&event()));
    let woken = tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
    assert_eq!(woken.expect("no panic"), 1);
}

#[tokio::test]
async fn what_came_before_somebody_waits_is_there_at_once() {
    let connection = connection(Duration::ZERO);
    connection.offer_readings(&reading("a"), Instant::now());
    assert_eq!(connection.next(10).await.len(), 1);
    connection.missed("a gap");
    assert_eq!(connection.next(10).await.len(), 1);
}

#[tokio::test]
async fn an_event_is_not_held_up_by_a_reading_that_is_not_due() {
    let connection = connection(Duration::from_secs(3600));
    connection.offer_readings(&reading("a"), Instant::now());
    assert_eq!(connection.next(10).await.len(), 1, "the first is due at once");
    connection.offer_readings(&reading("a"), Instant::now());
    let mut next = std::pin::pin!(connection.next(10));
    assert!(futures::poll!(next.as_mut()).is_pending(), "the second is not, for an hour");
    assert!(connection.offer(&event()));
    let out = tokio::time::timeout(PATIENCE, next).await.expect("in time");
    assert!(matches!(out.as_slice(), [Out::Event(_)]), "{out:?}");
}

#[tokio::test]
async fn a_closed_connection_takes_nothing_any_more() {
    let connection = connection(Duration::ZERO);
    assert!(connection.offer(&event()));
    connection.close(Closing::again("stopping"));
    assert!(!connection.offer(&event()));
    connection.offer_readings(&reading("a"), Instant::now());
    assert_eq!(connection.out().due(Instant::now()), None);
    assert_eq!(connection.closed().await, Closing::again("stopping"));
}
