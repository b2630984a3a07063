use acuvim_model::event::Event;

use super::*;
use crate::{
    jobs::{OUTBOX, lease::Leased},
    testing::Stores,
};

fn lease(stores: &Stores, holder: &str) -> JobLease {
    let control = stores.dependencies.control.clone();
    Leased::new(control, holder, tokio_util::sync::CancellationToken::new()).lease(OUTBOX)
}

async fn deliver(stores: &Stores, lease: &mut JobLease, delivered: Option<i64>) -> Option<i64> {
    match deliver_page(&stores.dependencies, lease, delivered).await {
        Ok(last) => last,
        Err(Stop::LeaseLost) => panic!("the lease is lost"),
        Err(Stop::Unavailable(reason)) => panic!("{reason}"),
    }
}

/// The numbers of the events in the log, with what they are about.
async fn delivered(stores: &Stores) -> Vec<(i64, String)> {
    let entries = stores.entries(LogTopic::Events).await;
    let event = |entry: &Entry| match Event::from_entry(entry).expect("an event") {
        Event::Alert(event) => (entry.outbox_seq().expect("a number"), event.alert.message),
        other => panic!("{other:?}"),
    };
    entries.iter().map(event).collect()
}

async fn for_lake(stores: &Stores) -> usize {
    stores.dependencies.control.events_for_lake(100).await.expect("events").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_delivered_in_order_and_stay_until_the_lake_has_them() {
    let stores = Stores::new().await;
    let mut lease = lease(&stores, "test");
    assert_eq!(deliver(&stores, &mut lease, None).await, None, "there is nothing");
    stores.alert(&["a"]).await;
    stores.alert(&["a", "b"]).await;
    let last = deliver(&stores, &mut lease, None).await.expect("two events");
    let found = delivered(&stores).await;
    let messages: Vec<&str> = found.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(messages, ["a is away", "b is away"]);
    assert_eq!(found.last().map(|(seq, _)| *seq), Some(last));
    assert!(found[0].0 < found[1].0);
    // Only the next call records that the log has them.
    assert_eq!(for_lake(&stores).await, 0);
    assert_eq!(deliver(&stores, &mut lease, Some(last)).await, None);
    assert_eq!(for_lake(&stores).await, 2);
    deliver_to_lake(&stores.dependencies).await.expect("the lake takes them");
    assert_eq!(for_lake(&stores).await, 0);
    assert_eq!(delivered(&stores).await.len(), 2, "none was delivered again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_events_are_delivered_again_under_their_numbers() {
    let stores = Stores::new().await;
    stores.alert(&["a"]).await;
    let first = deliver(&stores, &mut lease(&stores, "test"), None).await;
    // A process that starts again does not know that the log has them.
    let again = deliver(&stores, &mut lease(&stores, "test"), None).await;
    assert_eq!(first, again);
    let numbers: Vec<i64> = delivered(&stores).await.into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(numbers, [first.expect("a number"); 2], "readers skip the second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_delivered_without_the_lease() {
    let stores = Stores::new().await;
    stores.alert(&["a"]).await;
    assert!(lease(&stores, "other").is_held().await);
    let result = deliver_page(&stores.dependencies, &mut lease(&stores, "test"), None).await;
    assert!(matches!(result, Err(Stop::LeaseLost)));
    assert!(delivered(&stores).await.is_empty());
}
