use acuvim_control::{By, NotificationMade};
use acuvim_log::Entry;
use acuvim_model::NotificationBody;
use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::{jobs::notifications::select::tests::event, testing::Stores};

fn entry(seq: i64) -> Entry {
    let event = event("raised", json!({ "device_id": null, "origin": "system" }));
    event.to_entry(seq, Bytes::from(serde_json::to_vec(&event).expect("JSON")))
}

fn batch(entries: Vec<Entry>) -> Batch {
    let entries: Vec<(i64, Entry)> = (10..).zip(entries).collect();
    Batch { next: 10 + i64::try_from(entries.len()).expect("few"), entries }
}

const FROM: NoticePosition = NoticePosition { partition: 0, next: 10, seq: 4 };

async fn notified(stores: &Stores) {
    let body: NotificationBody =
        serde_json::from_value(json!({"name": "n", "kind": "webhook", "url": "https://x"}))
            .expect("a body");
    let made =
        stores.dependencies.control.create_notification(&body, &By::system(Utc::now())).await;
    assert!(matches!(made, Ok(NotificationMade::Done(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_delivered_twice_is_told_once() {
    let stores = Stores::new().await;
    notified(&stores).await;
    let entries = vec![entry(4), entry(5), entry(5), entry(6)];
    let change = messages(&stores.dependencies, FROM, &batch(entries)).await.expect("messages");
    assert_eq!(change.items.len(), 2, "4 was read before, and 5 comes twice");
    assert_eq!(change.to, NoticePosition { partition: 0, next: 14, seq: 6 });
    assert_eq!(change.from, FROM);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_is_passed() {
    let stores = Stores::new().await;
    notified(&stores).await;
    let mut odd = entry(7);
    odd.value = Bytes::from_static(br#"{"type":"of_a_newer_version"}"#);
    let unnumbered = Entry { value: Bytes::from_static(b"stranger"), ..Entry::default() };
    let change = messages(&stores.dependencies, FROM, &batch(vec![odd, unnumbered])).await;
    let change = change.expect("messages");
    assert!(change.items.is_empty());
    assert_eq!((change.to.next, change.to.seq), (12, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_only_the_position_moves() {
    let stores = Stores::new().await;
    let change = messages(&stores.dependencies, FROM, &batch(vec![entry(5)])).await;
    let change = change.expect("messages");
    assert_eq!((change.items.len(), change.to.seq), (0, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_what_happened_before_the_first_start() {
    let stores = Stores::new().await;
    let log = &stores.dependencies.log;
    log.append(LogTopic::Events, vec![(1, entry(1)), (1, entry(2))]).await.expect("appended");
    let at = |partition| start_position(&stores.dependencies, partition);
    let position = at(1).await.expect("a position");
    assert_eq!(position, NoticePosition { partition: 1, next: 2, seq: 0 });
    assert_eq!(at(0).await.expect("a position").next, 0);
    // From then on it is stored, and what comes is read.
    log.append(LogTopic::Events, vec![(1, entry(3))]).await.expect("appended");
    assert_eq!(at(1).await.expect("a position"), position);
    let read = read(&stores.dependencies, position).await.expect("a batch");
    assert_eq!((read.entries.len(), read.next), (1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_the_log_has_dropped_are_passed_over() {
    let stores = Stores::new().await;
    let log = &stores.dependencies.log;
    log.append(LogTopic::Events, vec![(0, entry(1)), (0, entry(2)), (0, entry(3))])
        .await
        .expect("appended");
    log.truncate_before(LogTopic::Events, 0, 2).await.expect("truncated");
    let position = NoticePosition { partition: 0, next: 0, seq: 0 };
    let gap = read(&stores.dependencies, position).await.expect("a gap");
    assert_eq!((gap.entries.len(), gap.next), (0, 2));
    let behind = NoticePosition { next: gap.next, ..position };
    assert_eq!(read(&stores.dependencies, behind).await.expect("a batch").entries.len(), 1);
}
