//! What a client missed, from a log in a folder.

use acuvim_log::Log as _;

use super::*;
use crate::{
    testing::{Fixture, online, position, reasons},
    writer::Wire,
};

/// Everything that a replay has, and the reasons of its gaps.
async fn replayed(
    fixture: &Fixture,
    seen: &StreamPosition,
    to: &StreamPosition,
) -> (Vec<String>, Vec<String>, StreamPosition) {
    let mut replay = Replay::begin(&fixture.live, seen, to).await.expect("the log answers");
    let (mut all, mut gaps) = (Vec::new(), Vec::new());
    loop {
        gaps.extend(replay.take_gap().map(|gap| gap.reason));
        match replay.next(&fixture.live).await.expect("the log answers") {
            Some(events) => all.extend(events.iter().flat_map(|event| reasons(event.hub()))),
            None => return (all, gaps, replay.at().clone()),
        }
    }
}

fn numbered(range: std::ops::Range<i64>) -> Vec<acuvim_log::Entry> {
    range.map(|n| online("a", &format!("n{n}"), Some(100 + n))).collect()
}

fn names(numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("n{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_what_lies_between_what_it_has_seen_and_where_it_joined() {
    let fixture = Fixture::new().await;
    fixture.store(0, numbered(0..10)).await;
    fixture.store(1, numbered(10..13)).await;
    let between = async |seen, to| replayed(&fixture, &position(seen), &position(to)).await;
    let (all, gaps, at) = between([4, 1], [7, 3]).await;
    assert_eq!((all, gaps), (names([4, 5, 6, 11, 12]), vec![]));
    let next: Vec<i64> = at.partitions.iter().map(|p| p.next).collect();
    assert_eq!(next, [7, 3]);
    assert_eq!(at.partitions[0].seq, 106, "a repetition of the last is known by its number");
    assert_eq!(between([7, 3], [7, 3]).await.0, names([]), "it has missed nothing");
    // It comes from a process that is ahead of this one.
    assert_eq!(between([9, 3], [7, 3]).await, (vec![], vec![], position([9, 3])));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_page_of_events_comes_whole() {
    let fixture = Fixture::new().await;
    fixture.store(0, numbered(0..450)).await;
    let (all, gaps, _) = replayed(&fixture, &position([0, 0]), &position([449, 0])).await;
    assert_eq!((all, gaps), (names(0..449), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_delivered_again_is_replayed_once() {
    let fixture = Fixture::new().await;
    let again = [numbered(0..3), numbered(1..3), numbered(3..5)].concat();
    fixture.store(0, again).await;
    let (all, _, _) = replayed(&fixture, &position([0, 0]), &position([7, 0])).await;
    assert_eq!(all, names(0..5));
    // The client has seen up to n2: its position knows the number.
    let mut seen = position([3, 0]);
    seen.partitions[0].seq = 102;
    assert_eq!(replayed(&fixture, &seen, &position([7, 0])).await.0, names(3..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_number_is_replayed_as_live_clients_got_it() {
    let fixture = Fixture::new().await;
    let entries = vec![
        online("a", "n0", Some(100)),
        online("a", "foreign", None),
        online("a", "n1", Some(101)),
    ];
    fixture.store(0, entries).await;
    let (all, _, at) = replayed(&fixture, &position([0, 0]), &position([3, 0])).await;
    assert_eq!(all, ["n0", "foreign", "n1"]);
    assert_eq!(at.partitions[0].seq, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_no_events_are_passed_over() {
    let fixture = Fixture::new().await;
    let mut broken = online("a", "n1", Some(101));
    broken.value = "{\"type\":\"newer\"}".into();
    let entries = vec![online("a", "n0", Some(100)), broken, online("a", "n2", Some(102))];
    fixture.store(0, entries).await;
    let (all, gaps, at) = replayed(&fixture, &position([0, 0]), &position([3, 0])).await;
    assert_eq!((all, gaps), (names([0, 2]), vec![]));
    assert_eq!(at.partitions[0].next, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_if_the_log_has_dropped_what_it_missed() {
    let fixture = Fixture::new().await;
    fixture.store(0, numbered(0..6)).await;
    fixture.log.truncate_before(LogTopic::Events, 0, 4).await.expect("truncated");
    let (all, gaps, _) = replayed(&fixture, &position([1, 0]), &position([6, 0])).await;
    assert_eq!((all, gaps), (names([4, 5]), vec![TOO_OLD.to_owned()]));
    // It has seen all that is gone: nothing is missing.
    let (all, gaps, _) = replayed(&fixture, &position([4, 0]), &position([6, 0])).await;
    assert_eq!((all, gaps), (names([4, 5]), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_if_the_log_drops_events_while_it_reads_them() {
    let fixture = Fixture::new().await;
    fixture.store(0, numbered(0..6)).await;
    let (seen, to) = (position([0, 0]), position([6, 0]));
    let mut replay = Replay::begin(&fixture.live, &seen, &to).await.expect("the log answers");
    assert!(replay.take_gap().is_none());
    fixture.log.truncate_before(LogTopic::Events, 0, 5).await.expect("truncated");
    let first = replay.next(&fixture.live).await.expect("the log answers");
    assert_eq!(first.map(|events| events.len()), Some(0));
    let gap = replay.take_gap().expect("a gap");
    assert_eq!((gap.reason.as_str(), gap.after.partitions[0].next), (TOO_OLD, 5));
    let rest = replay.next(&fixture.live).await.expect("the log answers").expect("the rest");
    assert_eq!(rest.iter().flat_map(|e| reasons(e.hub())).collect::<Vec<_>>(), names([5]));
    assert!(replay.take_gap().is_none(), "each gap is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_another_log_gets_a_notice_and_no_events() {
    let fixture = Fixture::new().await;
    fixture.store(0, numbered(0..3)).await;
    let to = position([3, 0]);
    let other_epoch = StreamPosition { epoch: 1, ..position([0, 0]) };
    let mut fewer = position([0, 0]);
    fewer.partitions.pop();
    for seen in [other_epoch, fewer, StreamPosition::default()] {
        let (all, gaps, at) = replayed(&fixture, &seen, &to).await;
        assert_eq!((all, gaps, at), (vec![], vec![OTHER_LOG.to_owned()], to.clone()), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_beyond_the_log_gets_a_notice_and_goes_on_from_its_end() {
    let fixture = Fixture::new().await;
    fixture.store(0, numbered(0..3)).await;
    for beyond in [4, i64::MAX] {
        let (all, gaps, at) = replayed(&fixture, &position([beyond, 0]), &position([3, 0])).await;
        assert_eq!((all, gaps), (vec![], vec![TOO_OLD.to_owned()]), "{beyond}");
        assert_eq!(at, position([3, 0]));
    }
}

/// The replay ends where the connection began: what comes after that waits in its queue.
#[tokio::test(flavor = "multi_thread")]
async fn replay_and_queue_meet_without_a_gap_and_without_a_repetition() {
    use crate::testing::{next_of, somebody};

    let fixture = Fixture::new().await;
    fixture.store(0, numbered(0..8)).await;
    fixture.live.hub().begin(position([5, 0]));
    let mut writer = fixture.writer(somebody(None), Wire::Hub).await;
    for offset in 5..8 {
        let entry = online("a", &format!("n{offset}"), Some(100 + offset));
        let message = message(&fixture.live, &entry).await;
        let after = PartitionPosition { next: offset + 1, seq: 100 + offset };
        fixture.live.hub().publish(message, 0, after);
    }
    let mut seen = position([2, 0]);
    seen.partitions[0].seq = 101;
    writer.resume(&seen).await.expect("the log answers");
    let mut got = Vec::new();
    while got.len() < 6 {
        got.extend(reasons(&next_of(&mut writer).await));
    }
    assert_eq!(got, names(2..8));
    assert!(crate::testing::is_idle(&mut writer).await);
}
