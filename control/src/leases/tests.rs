use std::{cell::Cell, collections::HashMap};

use proptest::prelude::*;

use super::*;
use crate::testing::{at, at_micros, fresh, runtime};

const MINUTE: TimeDelta = TimeDelta::minutes(1);

async fn hold(control: &Control, holder: &str, second: i64) -> Option<Lease> {
    control.hold_lease("job", holder, at(second), MINUTE).await.expect("ask")
}

async fn holds(control: &Control, lease: Lease, now: DateTime<Utc>) -> bool {
    let mut tx = control.begin().await.expect("begin");
    tx.holds("job", lease, now).await.expect("ask")
}

#[tokio::test]
async fn a_lease_ends_exactly_when_it_says() {
    let (_dir, control) = fresh().await;
    let lease = hold(&control, "a", 0).await.expect("free");
    assert_eq!(lease.until, at(60));
    assert!(holds(&control, lease, at_micros(59_999_999)).await);
    assert!(!holds(&control, lease, at(60)).await);
    let early = control.hold_lease("job", "b", at_micros(59_999_999), MINUTE).await.expect("ask");
    assert_eq!(early, None);
    assert!(hold(&control, "b", 60).await.is_some());
}

#[tokio::test]
async fn an_old_holder_cant_write_although_its_own_clock_says_that_it_may() {
    let (_dir, control) = fresh().await;
    let old = hold(&control, "a", 0).await.expect("free");
    let new = hold(&control, "b", 60).await.expect("expired");
    // The clock of the old holder is behind.
    assert!(!holds(&control, old, at(10)).await);
    assert!(holds(&control, new, at(61)).await);
    let mut tx = control.begin().await.expect("begin");
    assert!(!tx.holds("other", new, at(61)).await.expect("ask"), "a lease is for its own job");
}

#[tokio::test]
async fn a_renewal_keeps_the_epoch_and_an_expiry_ends_it() {
    let (_dir, control) = fresh().await;
    let first = hold(&control, "a", 0).await.expect("free");
    let renewed = hold(&control, "a", 59).await.expect("its own");
    assert_eq!((renewed.epoch, renewed.until), (first.epoch, at(119)));
    assert!(holds(&control, first, at(100)).await, "writes go on under the same epoch");
    let late = hold(&control, "a", 119).await.expect("nobody took it");
    assert!(late.epoch > first.epoch);
    assert!(!holds(&control, first, at(120)).await, "what began before the pause is fenced off");
}

#[tokio::test]
async fn a_lease_is_dropped_only_by_its_holder_and_not_prolonged_by_it() {
    let (_dir, control) = fresh().await;
    let lease = hold(&control, "a", 0).await.expect("free");
    control.drop_lease("job", "b", at(1)).await.expect("not its own");
    control.drop_lease("another", "a", at(1)).await.expect("another job");
    assert!(holds(&control, lease, at(2)).await);
    control.drop_lease("job", "a", at(90)).await.expect("it has expired");
    assert!(!holds(&control, lease, at(80)).await, "dropping an expired lease moves nothing");
    let lease = hold(&control, "a", 100).await.expect("free");
    control.drop_lease("job", "a", at(110)).await.expect("drop");
    assert!(!holds(&control, lease, at(110)).await);
    assert!(hold(&control, "b", 110).await.is_some(), "the next one need not wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_ask_at_once_one_gets_the_lease() {
    let (_dir, control) = fresh().await;
    let asked: Vec<_> = (0..12)
        .map(|n| {
            let control = control.clone();
            tokio::spawn(async move { hold(&control, &format!("p{n}"), 0).await })
        })
        .collect();
    let mut held = 0;
    for one in asked {
        held += usize::from(one.await.expect("task").is_some());
    }
    assert_eq!(held, 1);
}

#[tokio::test]
async fn held_leases_are_listed_by_prefix_until_they_end() {
    let (_dir, control) = fresh().await;
    for (name, second) in [("reader/2", 0), ("reader/1", 30), ("outbox", 0), ("read%", 0)] {
        control.hold_lease(name, "a", at(second), MINUTE).await.expect("ask").expect("free");
    }
    let list = async |prefix, second| control.held_leases(prefix, at(second)).await.expect("list");
    assert_eq!(list("reader/", 59).await, ["reader/1", "reader/2"]);
    assert_eq!(list("reader/", 60).await, ["reader/1"]);
    assert_eq!(list("read%", 0).await, ["read%"], "no pattern");
    assert_eq!(list("", 0).await.len(), 4);
}

/// Whatever holders do in whatever order: at no moment could two of them write, and no epoch is given to
/// two holders.
#[test]
fn no_two_holders_can_write_at_a_time() {
    let runtime = runtime();
    let (_dir, control) = runtime.block_on(fresh());
    let steps = prop::collection::vec((0..3_usize, 0..50_i64, any::<bool>()), 1..14);
    // Later cases go on after the earlier ones, on the same row.
    let start = Cell::new(0);
    proptest!(ProptestConfig::with_cases(64), |(steps in steps)| {
        let mut now = start.get();
        let (mut believed, mut owners) = (HashMap::new(), HashMap::new());
        for (holder, wait, drops) in steps {
            now += wait;
            let name = format!("p{holder}");
            if drops {
                runtime.block_on(control.drop_lease("job", &name, at(now))).expect("drop");
            } else if let Some(lease) = runtime.block_on(hold(&control, &name, now)) {
                let owner = owners.insert(lease.epoch, holder);
                prop_assert!(owner.is_none_or(|owner| owner == holder), "an epoch has one owner");
                believed.insert(holder, lease);
            }
            let mut able = 0;
            for lease in believed.values() {
                able += usize::from(runtime.block_on(holds(&control, *lease, at(now))));
            }
            prop_assert!(able <= 1, "{able} can write at {now}");
        }
        start.set(now + 1000);
    });
}
