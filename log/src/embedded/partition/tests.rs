//! A partition whose store was changed behind its back: by a crash in between, or by a damaged disk.

use super::*;
use crate::{
    embedded::shared::Shared,
    testing::{ALL, UPLINK, entry, options},
};

struct Store(tempfile::TempDir);

impl Store {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("dir"))
    }

    fn open(&self) -> Shared {
        Shared::open(options(self.0.path())).expect("a log")
    }
}

fn partition(shared: &Shared) -> &Partition {
    shared.partition(UPLINK, 0).expect("the partition")
}

/// Appends so many records as one batch, to a segment of its own.
fn append(shared: &Shared, count: i64) {
    let partition = partition(shared);
    if partition.active().is_some_and(|active| active.bytes > 0) {
        partition.roll(&shared.db, &shared.meta).expect("a segment");
    }
    let segment = partition.active().expect("a segment");
    let base = partition.next_offset();
    let entries: Vec<_> = (0..count).map(|n| entry((base + n).to_string())).collect();
    let mut batch = shared.db.batch().durability(Some(PersistMode::SyncData));
    batch.insert(&segment.keyspace, base.to_be_bytes(), layout::encode(entries.iter()));
    batch.commit().expect("stored");
    partition.appended(base + count, 1);
}

fn offsets(shared: &Shared, from: i64) -> Vec<i64> {
    let batch = partition(shared).read(from, ALL).expect("read");
    assert!(batch.entries.iter().all(|(offset, e)| e.value == offset.to_string()));
    batch.entries.iter().map(|(offset, _)| *offset).collect()
}

fn segments(shared: &Shared) -> usize {
    let prefix = segment_prefix(UPLINK, 0);
    shared.db.list_keyspace_names().iter().filter(|name| name.starts_with(&prefix)).count()
}

#[test]
fn every_offset_of_a_batch_can_be_read_from() {
    let store = Store::new();
    let shared = store.open();
    for count in [3, 1, 4] {
        append(&shared, count);
    }
    for from in 0..=8 {
        assert_eq!(offsets(&shared, from), (from..8).collect::<Vec<_>>());
    }
}

#[test]
fn a_crash_after_a_new_segment_and_before_its_first_batch_changes_nothing() {
    let store = Store::new();
    let shared = store.open();
    append(&shared, 3);
    partition(&shared).roll(&shared.db, &shared.meta).expect("a segment");
    drop(shared);
    let shared = store.open();
    assert_eq!(partition(&shared).bounds().expect("bounds"), Bounds { start: 0, end: 3 });
    append(&shared, 2);
    assert_eq!(offsets(&shared, 0), [0, 1, 2, 3, 4]);
    drop(shared);
    assert_eq!(offsets(&store.open(), 2), [2, 3, 4]);
}

/// The mark is stored before the segments are dropped. What it hides must stay hidden, and be freed later.
#[test]
fn a_crash_in_the_middle_of_a_truncation_is_made_good_by_the_next_one() {
    let store = Store::new();
    let shared = store.open();
    for _ in 0..5 {
        append(&shared, 2);
    }
    let mut batch = shared.db.batch().durability(Some(PersistMode::SyncData));
    batch.insert(&shared.meta, low_key(UPLINK, 0).as_bytes(), 5_i64.to_be_bytes());
    batch.commit().expect("stored");
    drop(shared);
    let shared = store.open();
    assert_eq!((partition(&shared).bounds().expect("bounds").start, segments(&shared)), (5, 5));
    let hidden = partition(&shared).read(4, ALL).expect_err("hidden");
    assert_eq!(hidden.kind(), ErrorKind::OutOfRange);
    assert_eq!(offsets(&shared, 5), [5, 6, 7, 8, 9]);
    partition(&shared).truncate_before(&shared.db, &shared.meta, 6).expect("truncated");
    assert_eq!((segments(&shared), offsets(&shared, 6)), (2, vec![6, 7, 8, 9]));
}

/// Only whole segments are freed; the rest of one is only hidden.
#[test]
fn a_segment_goes_with_its_last_record_and_the_active_one_stays() {
    let store = Store::new();
    let shared = store.open();
    for _ in 0..3 {
        append(&shared, 2);
    }
    let truncate = |offset| {
        partition(&shared).truncate_before(&shared.db, &shared.meta, offset).expect("truncated");
        (segments(&shared), partition(&shared).bounds().expect("bounds").start)
    };
    assert_eq!(truncate(1), (3, 1));
    assert_eq!(truncate(2), (2, 2));
    assert_eq!(truncate(5), (1, 5));
    assert_eq!(truncate(6), (1, 6));
    assert_eq!(truncate(99), (1, 6));
}

#[test]
fn a_batch_that_is_lost_is_an_error_and_no_silent_gap() {
    let store = Store::new();
    let shared = store.open();
    for _ in 0..3 {
        append(&shared, 2);
    }
    let middle = partition(&shared).with(|state| state.segments[1].clone());
    middle.keyspace.remove(2_i64.to_be_bytes()).expect("removed");
    for from in [0, 1, 2, 3] {
        let error = partition(&shared).read(from, ALL).expect_err("a gap");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "from {from}: {error}");
    }
    let error = partition(&shared).read(0, ALL).expect_err("a gap");
    assert!(error.to_string().contains("from offset 2 to 4"), "{error}");
    assert_eq!(offsets(&shared, 4), [4, 5], "what is behind it can be read");
    // A limit that ends before the gap does not meet it.
    let two = ReadLimit { records: 2, ..ALL };
    assert_eq!(partition(&shared).read(0, two).expect("read").next, 2);
}

#[test]
fn a_damaged_batch_is_an_error_for_its_readers_only() {
    let store = Store::new();
    let shared = store.open();
    for _ in 0..3 {
        append(&shared, 2);
    }
    let middle = partition(&shared).with(|state| state.segments[1].clone());
    middle.keyspace.insert(2_i64.to_be_bytes(), [9_u8, 9, 9]).expect("overwritten");
    let error = partition(&shared).read(2, ALL).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("offset 2"), "{error}");
    assert_eq!(offsets(&shared, 4), [4, 5]);
}

/// Without its count nobody knows which offset comes next.
#[test]
fn a_log_whose_last_batch_is_damaged_is_not_opened() {
    let store = Store::new();
    let shared = store.open();
    append(&shared, 2);
    let active = partition(&shared).active().expect("a segment");
    active.keyspace.insert(0_i64.to_be_bytes(), [9_u8]).expect("overwritten");
    shared.db.persist(PersistMode::SyncAll).expect("synced");
    drop((active, shared));
    let error = Shared::open(options(store.0.path())).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn closed_segments_end_where_the_next_begins_and_were_closed_when_it_was_made() {
    let store = Store::new();
    let shared = store.open();
    for count in [2, 3, 1] {
        append(&shared, count);
    }
    let closed = partition(&shared).closed(&shared.meta).expect("read");
    assert_eq!(closed.iter().map(|s| s.end).collect::<Vec<_>>(), [2, 5]);
    assert!(closed[0].at > 0 && closed[0].at <= closed[1].at);
}
