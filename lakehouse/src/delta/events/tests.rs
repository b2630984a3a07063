use acuvim_model::{DeviceStatus, event::DeviceEvent};
use chrono::{DateTime, Utc};

use super::*;
use crate::{
    Lake,
    testing::{ask, lake},
};

fn event(device: &str) -> Event {
    let ts = DateTime::<Utc>::UNIX_EPOCH;
    Event::Device(Box::new(DeviceEvent {
        event_id: uuid::Uuid::new_v4(),
        device_id: device.to_owned(),
        event: "status".to_owned(),
        ts,
        recorded_at: ts,
        status: Some(DeviceStatus::Offline),
        previous: None,
        reason: None,
        detail: None,
    }))
}

async fn stored(lake: &Lake) -> Vec<String> {
    let rows = ask(lake, "SELECT device_id FROM device_events ORDER BY device_id").await;
    rows.into_iter().flatten().collect()
}

#[tokio::test]
async fn an_event_that_is_delivered_again_is_stored_once() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    lake.deliver(&[(1, event("a")), (2, event("b"))]).await.expect("deliver");
    lake.deliver(&[(1, event("a")), (2, event("b")), (3, event("c"))]).await.expect("deliver");
    lake.deliver(&[(2, event("b"))]).await.expect("deliver");
    assert_eq!(stored(&lake).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_process_that_starts_anew_knows_what_was_delivered() {
    let dir = tempfile::tempdir().expect("dir");
    lake(dir.path()).await.deliver(&[(7, event("a"))]).await.expect("deliver");
    let again = lake(dir.path()).await;
    again.deliver(&[(7, event("a")), (8, event("b"))]).await.expect("deliver");
    assert_eq!(stored(&again).await, ["a", "b"]);
}

#[tokio::test]
async fn of_two_processes_that_deliver_the_same_one_fails_and_nothing_is_there_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) = (lake(dir.path()).await, lake(dir.path()).await);
    let events = [(1, event("a"))];
    one.deliver(&events).await.expect("deliver");
    two.deliver(&events).await.expect_err("the other was faster");
    two.deliver(&events).await.expect("it knows by now");
    assert_eq!(stored(&two).await, ["a"]);
}

#[tokio::test]
async fn nothing_to_deliver_makes_no_version() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let version = || lake.snapshot(Table::AlertEvents).expect("snapshot").version();
    let before = version();
    lake.deliver(&[]).await.expect("deliver");
    lake.deliver(&[(1, event("a"))]).await.expect("deliver");
    assert_eq!(version(), before, "there was no alert among them");
}
