//! Commands through a broker that is not there: what is sent, and what is reported of it.

use std::time::Duration;

use super::*;
use crate::{
    bridge::wire::{self, Wire},
    memory_log::MemoryLog,
    testing::{bridge_options, command, downlink, not_held, reported},
};

struct Test {
    log: Arc<MemoryLog>,
    outbound: Outbound,
    client: Client,
    _wire: Wire,
}

impl Test {
    fn new(of: fn(&Arc<MemoryLog>) -> Downlink) -> Self {
        let log = MemoryLog::new();
        let outbound = Outbound::start(&of(&log), &CancellationToken::new());
        let (client, wire) = wire::open(&bridge_options(), false);
        Self { log, outbound, client, _wire: wire }
    }

    /// Publishes command number `seq` on the connection of this number.
    fn publish(&self, connection: u64, seq: i64) {
        self.outbound.shared.publish(connection, &self.client, &command("d1", seq));
    }

    async fn reported(&self) -> Vec<(u128, Outcome)> {
        self.outbound.flush().await;
        reported(&self.log)
    }
}

#[tokio::test]
async fn a_command_is_sent_when_the_broker_has_a_subscriber_for_it() {
    let test = Test::new(downlink);
    for seq in 1..=3 {
        test.publish(0, seq);
    }
    for id in [11, 12, 13] {
        test.outbound.published(id);
    }
    assert!(test.reported().await.is_empty(), "nothing is acknowledged yet");
    test.outbound.acknowledged(13, true);
    test.outbound.acknowledged(11, false);
    test.outbound.acknowledged(99, true);
    test.outbound.acknowledged(13, true);
    assert_eq!(test.reported().await, [(1, Outcome::NoSubscriber), (3, Outcome::Sent)]);
}

/// A packet id on the new connection means another message, or none.
#[tokio::test]
async fn what_was_in_flight_when_the_connection_ended_is_never_reported() {
    let test = Test::new(downlink);
    test.publish(0, 1);
    test.publish(0, 2);
    test.outbound.published(7);
    test.outbound.close();
    test.outbound.published(8);
    test.outbound.acknowledged(7, true);
    test.outbound.acknowledged(8, true);
    assert!(test.reported().await.is_empty());
    // The new connection has another number.
    test.publish(0, 3);
    test.publish(1, 4);
    test.outbound.published(7);
    test.outbound.acknowledged(7, true);
    assert_eq!(test.reported().await, [(3, Outcome::NoSubscriber), (4, Outcome::Sent)]);
}

/// Two processes must never both send one.
#[tokio::test]
async fn without_the_lease_a_command_is_not_sent() {
    let test = Test::new(not_held);
    test.publish(0, 1);
    assert_eq!(test.reported().await, [(1, Outcome::NoSubscriber)]);
    assert!(test.outbound.shared.packets().queued.is_empty());
}

#[tokio::test]
async fn a_command_that_expired_on_the_way_is_not_sent_and_ends_as_a_timeout() {
    let test = Test::new(downlink);
    let expired = Command { expires_at: now() - 1, ..command("d1", 1) };
    test.outbound.shared.publish(0, &test.client, &expired);
    assert!(test.reported().await.is_empty() && test.outbound.shared.packets().queued.is_empty());
}

#[tokio::test]
async fn a_command_for_which_the_queue_has_no_room_reaches_nobody() {
    let test = Test::new(downlink);
    while test.client.publish("t", bytes::Bytes::new(), 10) {}
    test.publish(0, 1);
    assert_eq!(test.reported().await, [(1, Outcome::NoSubscriber)]);
}

#[tokio::test]
async fn no_more_commands_are_taken_than_there_are_packet_ids_for() {
    let test = Test::new(downlink);
    let shared = Arc::clone(&test.outbound.shared);
    // The task that takes commands waits for one from here on, and for room no more: only one is told of room.
    tokio::task::yield_now().await;
    for (seq, id) in (1..).zip(1..=u16::try_from(IN_FLIGHT).expect("few")) {
        shared.wait_for_room().await;
        test.publish(0, seq);
        test.outbound.published(id);
    }
    let waiting = tokio::spawn(async move { shared.wait_for_room().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    test.outbound.acknowledged(5, true);
    let room = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    room.expect("there is room").expect("no panic");
}

#[tokio::test]
async fn commands_that_wait_for_a_connection_when_it_is_stopped_reach_nobody() {
    let test = Test::new(downlink);
    let (sender, commands) = mpsc::channel(8);
    for seq in 1..=3 {
        sender.send(command("d1", seq)).await.expect("room");
    }
    let (_no_client, clients) = watch::channel(None);
    let stop = CancellationToken::new();
    let running =
        tokio::spawn(run(Arc::clone(&test.outbound.shared), commands, clients, stop.clone()));
    tokio::task::yield_now().await;
    assert!(test.reported().await.is_empty(), "they wait for a connection");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), running).await.expect("in time").expect("ended");
    let all = [1, 2, 3].map(|seq| (seq, Outcome::NoSubscriber));
    assert_eq!(test.reported().await, all);
}
