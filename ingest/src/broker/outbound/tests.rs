//! Commands for devices that are not connected, and whose commands a topic carries.

use super::*;
use crate::{
    memory_log::MemoryLog,
    testing::{command, downlink, reported},
};

/// With a router that has no clients.
fn outbound(downlink: Downlink) -> (Arc<Outbound>, Arc<MessageRouter>) {
    let (outbound, router) = (Arc::new(Outbound::new(downlink)), Arc::new(MessageRouter::new()));
    outbound.attach(&router);
    (outbound, router)
}

#[tokio::test]
async fn only_the_command_topic_of_one_device_carries_commands() {
    let (outbound, _router) = outbound(downlink(&MemoryLog::new()));
    assert_eq!(outbound.device_of("acuvim/d1/cmd"), Some("d1"));
    for other in [
        "acuvim/+/cmd",
        "acuvim/#",
        "acuvim/a/b/cmd",
        "acuvim//cmd",
        "acuvim/d1/cmd/x",
        "acuvim/d1/status",
        "acuvimx/d1/cmd",
        "other/d1/cmd",
        "cmd",
    ] {
        assert_eq!(outbound.device_of(other), None, "{other}");
    }
}

/// A command is reported as sent with its PUBACK, which QoS 0 does not have.
#[tokio::test]
async fn a_subscription_counts_if_it_is_granted_with_acknowledgements() {
    let (outbound, _router) = outbound(downlink(&MemoryLog::new()));
    let client: Arc<str> = "c".into();
    for (result, counts) in [
        (SubAckReasonCode::GrantedQoS0, false),
        (SubAckReasonCode::NotAuthorized, false),
        (SubAckReasonCode::GrantedQoS1, true),
        (SubAckReasonCode::GrantedQoS2, true),
    ] {
        outbound.subscribed(&client, "acuvim/d1/cmd", result);
        assert_eq!(outbound.subscribers("d1").len(), usize::from(counts), "{result:?}");
        outbound.unsubscribed("c", "acuvim/d1/cmd");
        assert!(outbound.subscribers("d1").is_empty());
    }
}

#[tokio::test]
async fn a_command_without_a_subscriber_is_reported_only_if_no_other_ingest_could_have_one() {
    for alone in [true, false] {
        let log = MemoryLog::new();
        let (outbound, _router) = outbound(Downlink { alone, ..downlink(&log) });
        outbound.push(command("d1", 1)).await;
        outbound.flush().await;
        assert_eq!(reported(&log).len(), usize::from(alone), "alone: {alone}");
    }
}

/// A session outlives its connection. The next command must not wait behind one that nobody takes.
#[tokio::test]
async fn a_subscriber_that_is_away_takes_no_command_and_blocks_none() {
    let log = MemoryLog::new();
    let (outbound, _router) = outbound(downlink(&log));
    outbound.subscribed(&"d1".into(), "acuvim/d1/cmd", SubAckReasonCode::GrantedQoS1);
    for seq in 1..=3 {
        outbound.push(command("d1", seq)).await;
    }
    outbound.flush().await;
    assert_eq!(reported(&log), [1, 2, 3].map(|seq| (seq, Outcome::NoSubscriber)));
    outbound.sweep().await;
    assert!(outbound.subscribers("d1").is_empty(), "the router does not know it any more");
}

/// It ends as a timeout: a report would say that it could not be delivered, which nobody knows.
#[tokio::test]
async fn an_expired_command_is_dropped_and_the_next_one_goes_on() {
    let log = MemoryLog::new();
    let (outbound, _router) = outbound(downlink(&log));
    outbound.subscribed(&"d1".into(), "acuvim/d1/cmd", SubAckReasonCode::GrantedQoS1);
    outbound.push(Command { expires_at: now(), ..command("d1", 1) }).await;
    outbound.push(command("d1", 2)).await;
    outbound.flush().await;
    assert_eq!(reported(&log), [(2, Outcome::NoSubscriber)]);
}

#[tokio::test]
async fn commands_that_are_left_at_the_end_reach_nobody() {
    let log = MemoryLog::new();
    let (outbound, _router) = outbound(downlink(&log));
    outbound.subscribed(&"d1".into(), "acuvim/d1/cmd", SubAckReasonCode::GrantedQoS1);
    // One is in flight, one waits behind it, and one is still in the channel.
    assert!(matches!(outbound.queues().push(command("d1", 1)), Next::Publish(_)));
    assert_eq!(outbound.queues().push(command("d1", 2)), Next::Queued);
    let (sender, commands) = mpsc::channel(8);
    sender.send(command("d1", 3)).await.expect("room");
    let stop = CancellationToken::new();
    stop.cancel();
    let run = Arc::clone(&outbound).run(commands, stop);
    tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends");
    outbound.flush().await;
    let seqs: Vec<u128> = reported(&log).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs.iter().filter(|seq| **seq > 1).count(), 2, "{seqs:?}");
}

#[tokio::test]
async fn a_puback_of_nothing_and_a_disconnect_without_commands_report_nothing() {
    let log = MemoryLog::new();
    let (outbound, _router) = outbound(downlink(&log));
    outbound.acknowledged("d1").await;
    outbound.disconnected("d1");
    outbound.give_up_late().await;
    outbound.flush().await;
    assert!(reported(&log).is_empty());
}
