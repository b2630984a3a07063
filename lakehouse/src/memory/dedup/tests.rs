use super::*;
use acuvim_wire::time::DAY;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Runs readings in batches as the stream does, with a set in place of the lake.
fn run(batches: &[Vec<(String, Micros)>], limits: DedupLimits) -> BTreeSet<(String, Micros)> {
    let mut stored = BTreeSet::new();
    let mut dedup = Dedup::new(Newest::new(1), limits);
    for batch in batches {
        let readings = || batch.iter().map(|(d, t)| (d.as_str(), *t));
        for (device, day) in dedup.wanted(readings()) {
            let times: Vec<_> = stored
                .iter()
                .filter(|(d, t): &&(String, Micros)| **d == *device && day_of(*t) == day)
                .map(|(_, t)| *t)
                .collect();
            dedup.load((device, day), times);
        }
        for (reading, new) in batch.iter().zip(dedup.judge(readings())) {
            assert_eq!(new, stored.insert(reading.clone()), "{reading:?}");
        }
    }
    stored
}

#[test]
fn what_may_be_there_unknown_is_looked_up() {
    let newest = Newest::new(1);
    newest.know_from(1000);
    newest.note("known", 2000);
    let mut dedup = Dedup::new(newest, DedupLimits::default());
    let readings = [("new", 1001), ("known", 2001), ("new", 1000), ("new", 10), ("old", 20)];
    let wanted = dedup.wanted(readings.into_iter());
    assert_eq!(wanted, HashSet::from([("new".into(), 0), ("old".into(), 0)]));
    dedup.load(("new".into(), 0), [10]);
    dedup.load(("old".into(), 0), []);
    assert_eq!(dedup.stored(readings.into_iter()), [false, false, false, true, false]);
    assert_eq!(dedup.judge(readings.into_iter()), [true, true, true, false, true]);
    // 30 is newer than the newest known time, but below the floor: it is judged by the loaded times.
    let again = [("old", 20), ("old", 30)];
    assert_eq!(dedup.judge(again.into_iter()), [false, true]);
    assert!(!dedup.newest.is_newer("old", 1000));
}

proptest! {
    #[test]
    fn stores_each_reading_once_whatever_the_order(
        batches in proptest::collection::vec(
            proptest::collection::vec((0..3_u8, 0..40_i64), 0..30), 0..8),
        max_times in 0_usize..50,
    ) {
        let batches: Vec<Vec<_>> = batches.into_iter().map(|batch| {
            batch.into_iter().map(|(d, t)| (format!("d{d}"), t * DAY / 8)).collect()
        }).collect();
        let stored = run(&batches, DedupLimits { max_times });
        let all: BTreeSet<_> = batches.into_iter().flatten().collect();
        prop_assert_eq!(stored, all);
    }
}

#[test]
fn live_readings_and_their_repetitions_load_nothing() {
    let dedup = Dedup::new(Newest::new(1), DedupLimits::default());
    let readings = [("a", 1), ("a", 2), ("a", 2), ("b", 1)];
    assert!(dedup.wanted(readings.into_iter()).is_empty());
    let late = [("a", 3 * DAY), ("a", 1), ("a", DAY)];
    assert_eq!(dedup.wanted(late.into_iter()).len(), 2);
}

#[test]
fn memory_is_bounded() {
    let mut dedup = Dedup::new(Newest::new(1), DedupLimits { max_times: 100 });
    dedup.judge([("a", DAY * 1000)].into_iter());
    for day in 0..50 {
        dedup.load(("a".into(), day), (0..10).map(|i| i64::from(day) * DAY + i));
        dedup.judge(std::iter::empty());
        assert!(dedup.times <= 110);
    }
}

#[test]
fn a_late_reading_of_a_day_that_was_not_loaded_is_dropped_and_not_stored_twice() {
    let mut dedup = Dedup::new(Newest::new(1), DedupLimits::default());
    assert_eq!(dedup.judge([("a", DAY)].into_iter()), [true]);
    assert_eq!(dedup.judge([("a", 5)].into_iter()), [false]);
    dedup.load(("a".into(), 0), []);
    assert_eq!(dedup.judge([("a", 5), ("a", 5)].into_iter()), [true, false]);
}

#[test]
fn days_are_those_of_utc_and_begin_at_midnight() {
    let newest = Newest::new(1);
    newest.note("a", 10 * DAY);
    let dedup = Dedup::new(newest, DedupLimits::default());
    let wanted = |ts: Micros| {
        let wanted = dedup.wanted([("a", ts)].into_iter());
        wanted.into_iter().map(|(_, day)| day).collect::<Vec<_>>()
    };
    assert_eq!(wanted(DAY - 1), [0]);
    assert_eq!(wanted(DAY), [1]);
    assert_eq!(wanted(-1), [-1]);
    assert_eq!(wanted(10 * DAY), [0_i32; 0], "it equals the newest");
    assert_eq!(wanted(10 * DAY + 1), [0_i32; 0], "it is newer");
}

#[test]
fn asking_changes_nothing() {
    let newest = Newest::new(1);
    newest.note("a", 100);
    let mut dedup = Dedup::new(newest.clone(), DedupLimits::default());
    let readings = [("a", 50), ("a", 200), ("b", 1)];
    dedup.load(("a".into(), 0), [50]);
    assert_eq!(dedup.wanted(readings.into_iter()), HashSet::new());
    assert_eq!(dedup.stored(readings.into_iter()), [true, false, false]);
    assert_eq!((newest.get("a"), newest.get("b")), (Some(100), None));
    assert_eq!(dedup.judge(readings.into_iter()), [false, true, true]);
    assert_eq!((newest.get("a"), newest.get("b")), (Some(200), Some(1)));
}

#[test]
fn devices_do_not_share_times() {
    let mut dedup = Dedup::new(Newest::new(1), DedupLimits::default());
    dedup.judge([("a", 100), ("b", 100)].into_iter());
    dedup.load(("a".into(), 0), [50]);
    dedup.load(("b".into(), 0), []);
    assert_eq!(dedup.judge([("a", 50), ("b", 50)].into_iter()), [false, true]);
}

#[test]
fn the_days_that_were_used_last_are_kept() {
    let mut dedup = Dedup::new(Newest::new(1), DedupLimits { max_times: 20 });
    dedup.judge([("a", DAY * 1000)].into_iter());
    for day in 0..2 {
        dedup.load(("a".into(), day), (0..10).map(|n| i64::from(day) * DAY + n));
    }
    // The day 0 is used again, then a third day is too much.
    dedup.judge([("a", 3)].into_iter());
    dedup.load(("a".into(), 2), [2 * DAY]);
    dedup.judge(std::iter::empty());
    let kept = |day: i32| dedup.days.contains_key(&(Arc::from("a"), day));
    assert_eq!((kept(0), kept(1), kept(2)), (false, false, true), "down to half the limit");
    assert_eq!(dedup.times, 1);
}
