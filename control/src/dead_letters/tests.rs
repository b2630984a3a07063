use super::*;
use crate::{
    Changes,
    testing::{add_devices, apply, at, fresh, scope_of},
};

fn letter(offset: i64) -> Identity {
    Identity { epoch: 0, partition: 1, offset, item: 0 }
}

async fn claim(control: &Control, letters: &[Identity], now: DateTime<Utc>) -> usize {
    let letters: Vec<_> = letters.iter().map(|letter| (*letter, "d".to_owned())).collect();
    control.claim_replays(&letters, "test", now).await.expect("claim").len()
}

async fn outcomes(control: &Control, replayed: Vec<(Identity, ReplayOutcome)>) {
    let dead_letters = DeadLetterUpdates { replayed, ..DeadLetterUpdates::default() };
    apply(control, Changes { dead_letters, ..Changes::default() }).await;
}

#[tokio::test]
async fn a_dead_letter_is_replayed_by_one_of_two_callers() {
    let (_dir, control) = fresh().await;
    let letters = [letter(1), letter(2), letter(2)];
    assert_eq!(claim(&control, &letters, at(0)).await, 2, "a letter that is named twice is one");
    assert_eq!(claim(&control, &[letter(2), letter(3)], at(1)).await, 1);
}

#[tokio::test]
async fn a_pending_replay_is_lost_after_ten_minutes_and_not_before() {
    let (_dir, control) = fresh().await;
    assert_eq!(claim(&control, &[letter(1)], at(0)).await, 1);
    assert_eq!(claim(&control, &[letter(1)], at(600)).await, 0);
    let later = at(600) + TimeDelta::microseconds(1);
    assert_eq!(claim(&control, &[letter(1)], later).await, 1);
    assert_eq!(claim(&control, &[letter(1)], at(1200)).await, 0, "the ten minutes began again");
}

#[tokio::test]
async fn what_has_an_outcome_is_never_replayed_again() {
    let (_dir, control) = fresh().await;
    let all = [letter(1), letter(2), letter(3), letter(4)];
    claim(&control, &all, at(0)).await;
    let three = [ReplayOutcome::Stored, ReplayOutcome::Duplicate, ReplayOutcome::DeadLetter];
    outcomes(&control, all.into_iter().zip(three).collect()).await;
    assert_eq!(control.replayed(&all).await.expect("count"), 3, "the last is pending");
    assert_eq!(claim(&control, &all, at(9999)).await, 1);
    outcomes(&control, vec![(letter(9), ReplayOutcome::Stored)]).await;
    assert_eq!(control.replayed(&[letter(9)]).await.expect("count"), 0, "nobody replayed it");
    assert_eq!(control.replayed(&[]).await.expect("count"), 0);
}

#[tokio::test]
async fn more_letters_than_a_statement_holds_are_counted_once_each() {
    let (_dir, control) = fresh().await;
    let all: Vec<Identity> = (0..1001).map(letter).collect();
    assert_eq!(claim(&control, &all, at(0)).await, 1001);
    let stored = all.iter().map(|letter| (*letter, ReplayOutcome::Stored)).collect();
    outcomes(&control, stored).await;
    assert_eq!(control.replayed(&all).await.expect("count"), 1001);
}

#[tokio::test]
async fn replays_are_listed_in_the_scope_and_counted_in_a_range_if_they_are_stored() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d", "e"]).await;
    for (n, second) in [(1, 10), (2, 20), (3, 30)] {
        claim(&control, &[letter(n)], at(second)).await;
    }
    let other = [(letter(4), "e".to_owned())];
    control.claim_replays(&other, "test", at(15)).await.expect("claim");
    let stored = |n| (letter(n), ReplayOutcome::Stored);
    outcomes(&control, vec![stored(1), stored(2), stored(4)]).await;
    let count = async |from, to| control.replays_of("d", at(from), at(to)).await.expect("count");
    assert_eq!((count(10, 20).await, count(10, 21).await, count(11, 99).await), (1, 2, 1));
    let list = async |scope: Option<&Scope>| {
        let replays = control.replays(scope, 9).await.expect("list");
        replays.into_iter().map(|one| one.at).collect::<Vec<_>>()
    };
    assert_eq!(list(None).await, [at(30), at(20), at(15), at(10)], "newest first");
    assert_eq!(list(Some(&scope_of(&["e"]))).await, [at(15)]);
    assert!(list(Some(&scope_of(&[]))).await.is_empty());
    assert_eq!(control.replays(None, 1).await.expect("list").len(), 1);
}

#[tokio::test]
async fn a_boot_stays_until_its_newest_letter_was_replayed() {
    let (_dir, control) = fresh().await;
    let arrive = async |second| {
        let dead_letters = DeadLetterUpdates {
            clockless: vec![("d".into(), 3, at(second))],
            ..DeadLetterUpdates::default()
        };
        apply(&control, Changes { dead_letters, ..Changes::default() }).await;
    };
    let start = async |device: &str, boot, started| {
        let dead_letters = DeadLetterUpdates {
            anchors: vec![(device.to_owned(), boot, started)],
            ..DeadLetterUpdates::default()
        };
        apply(&control, Changes { dead_letters, ..Changes::default() }).await;
    };
    arrive(1).await;
    for (device, boot) in [("d", 2), ("e", 3)] {
        start(device, boot, 7).await;
    }
    assert!(control.clockless(9).await.expect("list").is_empty(), "the start of another boot");
    start("d", 3, 1000).await;
    start("d", 3, 2000).await;
    let boots = control.clockless(9).await.expect("list");
    assert_eq!(boots.iter().map(|b| (b.boot, b.started)).collect::<Vec<_>>(), [(3, 1000)]);
    arrive(2).await;
    control.settle_clockless(&boots[0]).await.expect("settle");
    let boots = control.clockless(9).await.expect("list");
    assert_eq!(boots.len(), 1, "a letter arrived in between");
    control.settle_clockless(&boots[0]).await.expect("settle");
    assert!(control.clockless(9).await.expect("list").is_empty());
}
