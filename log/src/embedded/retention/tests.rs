//! What retention may drop: only what is too old or too much, and never what a reader still needs.

use std::time::Duration;

use fjall::PersistMode;
use proptest::prelude::*;

use super::*;
use crate::{
    embedded::cursor_key,
    log::Log as _,
    testing::{UPLINK, append, open, options, values},
};

fn closed(bytes: &[u64]) -> Vec<Closed> {
    let segment = |(n, bytes): (i64, &u64)| Closed { end: 10 * n, bytes: *bytes, at: 1000 * n };
    (1..).zip(bytes).map(segment).collect()
}

#[test]
fn old_segments_go_and_the_first_young_one_stays() {
    let all = closed(&[5, 5, 5]);
    for (oldest, want) in
        [(1000, None), (1001, Some(10)), (2000, Some(10)), (2001, Some(20)), (9000, Some(30))]
    {
        assert_eq!(expendable(&all, oldest, u64::MAX), want, "older than {oldest}");
    }
    assert_eq!(expendable(&[], 9000, 0), None);
}

#[test]
fn of_too_many_bytes_the_oldest_segments_go() {
    let all = closed(&[5, 3, 4]);
    for (max, want) in [(12, None), (11, Some(10)), (7, Some(10)), (6, Some(20)), (3, Some(30))] {
        assert_eq!(expendable(&all, 0, max), want, "at most {max} bytes");
    }
}

proptest! {
    /// What goes is a prefix; what stays is young and fits; and nothing goes that would have been both.
    #[test]
    fn no_more_goes_than_has_to(
        sizes in prop::collection::vec(0_u64..50, 0..12), max in 0_u64..300, oldest in 0_u128..14_000,
    ) {
        let all = closed(&sizes);
        let before = expendable(&all, oldest, max).unwrap_or(0);
        let kept: Vec<&Closed> = all.iter().filter(|s| s.end > before).collect();
        prop_assert!(kept.iter().map(|s| s.bytes).sum::<u64>() <= max);
        prop_assert!(kept.iter().all(|s| s.at as u128 >= oldest));
        if let Some(last) = all.iter().rev().find(|s| s.end <= before) {
            let with: u64 = kept.iter().map(|s| s.bytes).sum::<u64>() + last.bytes;
            prop_assert!((last.at as u128) < oldest || with > max, "{} had to go", last.end);
        }
    }
}

/// Sets a cursor, also of a partition that this log does not have.
fn set(shared: &Shared, name: &str, topic: LogTopic, number: u32, offset: i64) {
    let mut batch = shared.db.batch().durability(Some(PersistMode::SyncData));
    batch.insert(&shared.meta, cursor_key(name, topic, number).as_bytes(), offset.to_be_bytes());
    batch.commit().expect("set");
}

#[test]
fn the_slowest_of_the_readers_of_this_partition_counts() {
    let root = tempfile::tempdir().expect("dir");
    let shared = Shared::open(options(root.path())).expect("a log");
    let slowest = |topic, number| slowest_cursor(&shared, topic, number).expect("read");
    assert_eq!(slowest(UPLINK, 1), None);
    set(&shared, "lake", UPLINK, 1, 40);
    assert_eq!(slowest(UPLINK, 1), None, "control has read nothing");
    // Another partition, another topic, and another reader whose name ends like a sink's.
    set(&shared, "control", UPLINK, 10, 3);
    set(&shared, "control", LogTopic::Commands, 1, 3);
    set(&shared, "backup/control", UPLINK, 1, 90);
    assert_eq!(slowest(UPLINK, 1), None, "still nothing of control");
    set(&shared, "control", UPLINK, 1, 30);
    assert_eq!(slowest(UPLINK, 1), Some(30));
    set(&shared, "backup/control", UPLINK, 1, 7);
    assert_eq!(slowest(UPLINK, 1), Some(7), "every reader counts, not only the sinks");
}

#[test]
fn commands_wait_for_their_first_reader_and_events_for_nobody() {
    let root = tempfile::tempdir().expect("dir");
    let shared = Shared::open(options(root.path())).expect("a log");
    let slowest = |topic| slowest_cursor(&shared, topic, 0).expect("read");
    assert_eq!(slowest(LogTopic::Commands), None, "nobody has sent them to devices");
    set(&shared, "ingest-1", LogTopic::Commands, 0, 12);
    assert_eq!(slowest(LogTopic::Commands), Some(12));
    assert_eq!(slowest(LogTopic::Events), Some(i64::MAX), "live clients want new ones only");
    set(&shared, "hub", LogTopic::Events, 0, 5);
    assert_eq!(slowest(LogTopic::Events), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_settings_no_reader_misses_a_record() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..8).await;
    let everything = Retention { max_age: Duration::ZERO, max_bytes: 0 };
    let now = SystemTime::now() + Duration::from_secs(1);
    for (lake, control, start) in [(0, 0, 0), (3, 1, 1), (3, 5, 3), (5, 5, 5), (8, 8, 7)] {
        log.set_cursor("lake", UPLINK, 0, lake).await.expect("set");
        log.set_cursor("control", UPLINK, 0, control).await.expect("set");
        log.retain(now, everything).await.expect("retained");
        let bounds = log.bounds(UPLINK, 0).await.expect("bounds");
        assert_eq!((bounds.start, bounds.end), (start, 8), "lake {lake}, control {control}");
        assert_eq!(values(&log, start).await.len(), 8 - start as usize);
    }
}

/// A clock before 1970, or a longer age than time has passed, must not make everything old.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_drops_nothing() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..3).await;
    for sink in ["lake", "control"] {
        log.set_cursor(sink, UPLINK, 0, 3).await.expect("set");
    }
    let keep = Retention { max_age: Duration::from_secs(60), max_bytes: u64::MAX };
    for now in [UNIX_EPOCH - Duration::from_secs(5), UNIX_EPOCH, SystemTime::now()] {
        assert_eq!(log.retain(now, keep).await.expect("retained"), 0, "{now:?}");
    }
    let for_ever = Retention { max_age: Duration::MAX, max_bytes: u64::MAX };
    assert_eq!(log.retain(SystemTime::now(), for_ever).await.expect("retained"), 0);
    assert_eq!(log.bounds(UPLINK, 0).await.expect("bounds").start, 0);
}
