//! The order and the form of what one client gets.

use super::*;
use crate::{
    position::PartitionPosition,
    testing::{Fixture, is_idle, next_of, online, position, reasons, somebody},
};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

async fn publish(fixture: &Fixture, device: &str, offset: i64) {
    let entry = online(device, &format!("n{offset}"), Some(100 + offset));
    let message = crate::log_events::message(&fixture.live, &entry).await;
    let after = PartitionPosition { next: offset + 1, seq: 100 + offset };
    fixture.live.hub().publish(message, 0, after);
}

fn after(offset: i64) -> StreamPosition {
    let mut position = position([offset + 1, 0]);
    position.partitions[0].seq = 100 + offset;
    position
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_before_the_log_can_be_read() {
    let fixture = Fixture::new().await;
    let refused = ConnectionWriter::open(&fixture.live, somebody(None), Wire::Sse).await;
    assert!(matches!(refused, Err(ConnectError::Refused(Refusal::NotReady))), "{refused:?}");
    fixture.begin();
    fixture.writer(somebody(None), Wire::Sse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_sees_its_devices_alone() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let mut writer = fixture.writer(somebody(Some(&["a", "c"])), Wire::Sse).await;
    let mut blind = fixture.writer(somebody(Some(&[])), Wire::Sse).await;
    for (offset, device) in (0..).zip(["a", "b", "c", "nobody"]) {
        publish(&fixture, device, offset).await;
    }
    assert_eq!(reasons(&next_of(&mut writer).await), ["n0", "n2"]);
    assert!(is_idle(&mut blind).await, "an empty scope sees nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_sent_event_has_the_position_after_it() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let mut writer = fixture.writer(somebody(None), Wire::Sse).await;
    writer.begin_with(bytes::Bytes::from_static(b"retry: 1000\n\n"));
    assert_eq!(writer.idle(), None, "its first bytes are still to come");
    publish(&fixture, "a", 0).await;
    assert_eq!(text(next_of(&mut writer).await), "retry: 1000\n\n", "first of all");
    assert_eq!(writer.idle(), None, "an event waits");
    let event = text(next_of(&mut writer).await);
    let head = format!("id: {}\nevent: DeviceStatusChanged\ndata: {{", after(0).encode());
    assert!(event.starts_with(&head) && event.ends_with("}\n\n"), "{event}");
    assert_eq!(event.lines().count(), 4, "data is one line");
    // An event for others moves the position of an idle client too.
    fixture.live.hub().publish(None, 0, PartitionPosition { next: 9, seq: 108 });
    let idle = text(writer.idle().expect("a position"));
    assert_eq!(idle, format!("id: {}\n\n", after(8).encode()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_hub_gets_positions_only_if_it_asks() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let mut writer = fixture.writer(somebody(None), Wire::Hub).await;
    publish(&fixture, "a", 0).await;
    assert!(!text(next_of(&mut writer).await).contains("EventsPosition"));
    assert_eq!(writer.idle(), Some(Vec::new()));
    writer.send_positions(true);
    publish(&fixture, "a", 1).await;
    publish(&fixture, "a", 2).await;
    let bytes = text(next_of(&mut writer).await);
    assert_eq!(bytes.matches("EventsPosition").count(), 1, "one for what is written together");
    assert!(bytes.contains(&after(2).encode()), "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_ahead_is_not_set_back_by_a_position() {
    let fixture = Fixture::new().await;
    fixture.store(1, (0..5).map(|n| online("b", "x", Some(200 + n))).collect()).await;
    fixture.begin();
    let mut writer = fixture.writer(somebody(None), Wire::Sse).await;
    // Another process had read partition 1 further than this one.
    let mut seen = position([0, 5]);
    seen.partitions[1].seq = 204;
    writer.resume(&seen).await.expect("the log answers");
    publish(&fixture, "a", 0).await;
    let mut wanted = after(0);
    wanted.partitions[1] = seen.partitions[1];
    let event = text(next_of(&mut writer).await);
    assert!(event.starts_with(&format!("id: {}\n", wanted.encode())), "{event}");
    assert_eq!(text(writer.idle().expect("idle")), format!("id: {}\n\n", wanted.encode()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_position_is_gone_is_told_first() {
    let fixture = Fixture::new().await;
    fixture.begin();
    for (offset, wire) in (0..).zip([Wire::Sse, Wire::Hub]) {
        let mut writer = fixture.writer(somebody(None), wire).await;
        writer.send_positions(true);
        writer.resume(&StreamPosition { epoch: 9, ..position([0, 0]) }).await.expect("answered");
        assert_eq!(writer.idle(), None, "no position comes before the notice");
        publish(&fixture, "a", offset).await;
        let first = text(next_of(&mut writer).await);
        let goes_on = writer.connection().joined.encode();
        let (notice, goes_on) = (first.find("EventsDropped"), first.find(&goes_on));
        assert!(notice < goes_on && notice.is_some(), "{first}");
        assert!(first.contains("begun anew"), "{first}");
        assert_eq!(reasons(&next_of(&mut writer).await), [format!("n{offset}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_limited_to_what_its_caller_sees() {
    let fixture = Fixture::new().await;
    fixture.begin();
    let writer = fixture.writer(somebody(Some(&["a"])), Wire::Sse).await;
    let of = |ids: &[&str]| Subscribe {
        device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Subscribe::default()
    };
    let error = writer.subscribe(&of(&["a", "b"])).await.expect_err("b is not theirs");
    assert_eq!(error, "there is no device `b`", "as if it did not exist");
    assert!(writer.connection().out().is_default(), "nothing has changed");
    assert_eq!(writer.subscribe(&of(&["a"])).await, Ok(1));
    assert_eq!(writer.subscribe(&of(&[])).await, Ok(2));
    let wants = |id| writer.connection().out().wants(crate::event::EventKind::AlertCreated, id);
    assert!(wants(Some("a")) && !wants(Some("b")) && !wants(None));
}
