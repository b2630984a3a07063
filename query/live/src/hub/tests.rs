//! Who gets in, what each connection gets, and where it can go on.

use super::*;
use crate::{event::EventKind, subscriber::Login};
use std::time::Duration;
use uuid::Uuid;

fn subscriber(id: u128) -> Subscriber {
    Subscriber { id: Uuid::from_u128(id), scope: None, login: None, expires_at: None }
}

fn everything() -> EventFilter {
    EventFilter { whole: true, ..EventFilter::default() }
}

fn at(next: i64) -> StreamPosition {
    StreamPosition { epoch: 0, partitions: vec![PartitionPosition { next, seq: next }; 2] }
}

fn hub(limits: LiveLimits) -> Arc<Hub> {
    let hub = Arc::new(Hub::new(limits));
    hub.begin(at(10));
    hub
}

fn join(hub: &Arc<Hub>, id: u128) -> Result<Joined, Refusal> {
    hub.join(subscriber(id), None, everything())
}

fn alert(device: &str) -> EventMessage {
    let arguments = vec![("device_id", format!("\"{device}\""))];
    EventMessage { kind: EventKind::AlertCreated, device: Some(device.into()), arguments }
}

fn publish(hub: &Hub, device: &str, next: i64) {
    hub.publish(Some(alert(device)), 0, PartitionPosition { next, seq: next });
}

fn taken(connection: &Connection) -> usize {
    connection.out().take(Instant::now(), 100).len()
}

#[test]
fn connections_are_taken_between_the_beginning_and_the_end() {
    let hub = Arc::new(Hub::new(LiveLimits::default()));
    assert_eq!(join(&hub, 1).err(), Some(Refusal::NotReady));
    hub.begin(at(10));
    let joined = join(&hub, 1).expect("a connection");
    assert_eq!(joined.connection.joined, at(10));
    hub.begin(at(99));
    assert_eq!(join(&hub, 1).expect("another").connection.joined, at(10), "it began once");
    hub.close_all(&Closing::again("bye"));
    assert_eq!(join(&hub, 1).err(), Some(Refusal::Stopping));
}

#[test]
fn connections_are_bounded_in_all_and_by_caller() {
    let limits = LiveLimits { connections: 3, connections_of_caller: 2, ..LiveLimits::default() };
    let hub = hub(limits);
    let first = join(&hub, 1).expect("one");
    let _second = join(&hub, 1).expect("two");
    assert_eq!(join(&hub, 1).err(), Some(Refusal::FullOfCaller));
    let _other = join(&hub, 2).expect("of another caller");
    assert_eq!(join(&hub, 3).err(), Some(Refusal::Full));
    drop(first);
    let _again = join(&hub, 1).expect("one has left");
    assert_eq!(hub.connections().len(), 3);
}

#[test]
fn a_connection_leaves_when_it_is_dropped() {
    let hub = hub(LiveLimits::default());
    assert!(hub.is_empty());
    let joined = join(&hub, 1).expect("a connection");
    assert!(!hub.is_empty());
    drop(joined);
    assert!(hub.is_empty());
}

#[test]
fn an_event_goes_to_those_who_are_there_and_moves_the_position_of_the_others() {
    let hub = hub(LiveLimits::default());
    publish(&hub, "a", 11);
    let joined = join(&hub, 1).expect("a connection");
    let mut later = at(10);
    later.partitions[0] = PartitionPosition { next: 11, seq: 11 };
    assert_eq!(joined.connection.joined, later, "what came before is not for it");
    assert_eq!(taken(&joined.connection), 0);
    publish(&hub, "a", 12);
    // An event that is not for live clients moves the position all the same.
    hub.publish(None, 1, PartitionPosition { next: 70, seq: 70 });
    assert_eq!(hub.position_of(&joined.connection), None, "an event waits for it");
    assert_eq!(taken(&joined.connection), 1);
    let now = hub.position_of(&joined.connection).expect("nothing waits");
    let next: Vec<i64> = now.partitions.iter().map(|p| p.next).collect();
    assert_eq!(next, [12, 70]);
    hub.publish(None, 9, PartitionPosition::default());
}

#[test]
fn a_client_that_has_seen_more_elsewhere_gets_only_what_is_new_to_it() {
    let hub = hub(LiveLimits::default());
    let joined = join(&hub, 1).expect("a connection");
    let connection = &joined.connection;
    publish(&hub, "a", 11);
    connection.has_seen(at(13));
    assert_eq!(taken(connection), 0, "what waited already is known to it");
    (12..=14).for_each(|next| publish(&hub, "a", next));
    assert_eq!(taken(connection), 1);
    let position = hub.position_of(connection).expect("nothing waits");
    assert_eq!(position.partitions.iter().map(|p| p.next).collect::<Vec<_>>(), [14, 13]);
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_closed_and_the_others_are_not() {
    let limits = LiveLimits { queue_events: 2, ..LiveLimits::default() };
    let hub = hub(limits);
    let (slow, fast) = (join(&hub, 1).expect("one"), join(&hub, 2).expect("another"));
    for next in 11..=13 {
        publish(&hub, "a", next);
        assert_eq!(taken(&fast.connection), 1);
    }
    let closing = slow.connection.closed().await;
    assert!(closing.reconnect && closing.reason.contains("too slowly"), "{closing:?}");
    assert_eq!(taken(&slow.connection), 0, "what waited for it is let go of");
    publish(&hub, "a", 14);
    assert_eq!((taken(&slow.connection), taken(&fast.connection)), (0, 1));
}

#[tokio::test]
async fn the_first_reason_to_close_counts() {
    let hub = hub(LiveLimits::default());
    let joined = join(&hub, 1).expect("a connection");
    joined.connection.close(Closing::for_good("the key is gone"));
    hub.close_all(&Closing::again("the server is stopping"));
    assert_eq!(joined.connection.closed().await, Closing::for_good("the key is gone"));
}

#[test]
fn a_gap_in_the_log_is_told_to_everyone() {
    let hub = hub(LiveLimits::default());
    let all = [join(&hub, 1).expect("one"), join(&hub, 2).expect("another")];
    hub.missed("the log lost events");
    for joined in &all {
        assert_eq!(taken(&joined.connection), 1);
    }
}

/// While a client accepts nothing, its readings wait in one place for all such clients.
#[tokio::test]
async fn a_stalled_client_catches_up_with_the_newest_reading_of_each_device() {
    let hub = hub(LiveLimits::default());
    let (stalled, other) = (join(&hub, 1).expect("one"), join(&hub, 2).expect("another"));
    let readings = |from: u32| -> Vec<Arc<Reading>> {
        let one = |(n, id): (u32, &str)| {
            Arc::new(Reading::telemetry(id.into(), format!("{{\"n\":{n},"), vec![]))
        };
        (from..).zip(["a", "b"]).map(one).collect()
    };
    let connection = Arc::clone(&stalled.connection);
    let never = connection.write(std::future::pending::<()>());
    let mut never = std::pin::pin!(never);
    assert!(futures::poll!(never.as_mut()).is_pending());
    assert!(!connection.is_stalled(Instant::now()), "it has only just begun");
    let later = Instant::now() + Duration::from_millis(501);
    assert!(connection.is_stalled(later));
    let kept = hub.stalled.keep(&[0, 1], std::iter::once(connection.number), &readings(10));
    assert!(kept.stalled.contains(&connection.number) && kept.rest.is_empty());
    hub.publish_readings(&readings(20));
    assert_eq!(taken(&connection), 0, "nothing is put into its own queue");
    assert_eq!(taken(&other.connection), 2);
    hub.catch_up(&connection);
    let texts: String = connection
        .out()
        .take(Instant::now(), 100)
        .iter()
        .map(|out| match out {
            crate::outbound::Out::Reading(reading, _) => {
                String::from_utf8_lossy(&reading.hub(None)).into_owned()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(texts.contains("\"n\":20") && texts.contains("\"n\":21"), "{texts}");
    hub.catch_up(&connection);
    assert_eq!(taken(&connection), 0, "once");
}

#[tokio::test]
async fn a_write_that_has_ended_stalls_nobody() {
    let hub = hub(LiveLimits::default());
    let joined = join(&hub, 1).expect("a connection");
    let later = Instant::now() + Duration::from_secs(3600);
    assert!(!joined.connection.is_stalled(later));
    assert_eq!(joined.connection.write(async { 7 }).await, 7);
    assert!(!joined.connection.is_stalled(later));
}

#[test]
fn a_login_and_a_key_of_one_id_are_one_caller() {
    let limits = LiveLimits { connections_of_caller: 1, ..LiveLimits::default() };
    let hub = hub(limits);
    let login = Some(Login { family: Uuid::nil(), session_version: 1 });
    let with = Subscriber { login, ..subscriber(1) };
    let _joined = hub.join(with, None, everything()).expect("one");
    assert_eq!(join(&hub, 1).err(), Some(Refusal::FullOfCaller));
}
