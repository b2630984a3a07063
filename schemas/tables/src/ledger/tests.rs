use super::*;
use acuvim_wire::time::SECOND;
use proptest::prelude::*;

#[test]
fn minutes_add_up_and_come_back() {
    let device: Arc<str> = "d".into();
    let one = Counts {
        records: 1,
        received: 4,
        stored: 2,
        duplicates: 1,
        same_ts: 1,
        ..Counts::default()
    };
    let mut ledger = Ledger::default();
    ledger.count(None, 61 * SECOND, 7, &one);
    ledger.count(None, 119 * SECOND, 8, &one);
    ledger.count(Some(&device), 61 * SECOND, 7, &one);
    let mut other = Ledger::default();
    other.count(None, 120 * SECOND, 9, &one);
    ledger.merge(&other);
    assert_eq!(ledger.total().received, 12);
    assert_eq!(ledger.total().unaccounted(), 0);
    let rows = rows_of(&ledger.rows(0, 3).expect("schema"));
    let at: Vec<_> = rows.iter().map(|r| (r.minute / SECOND, r.first.offset, r.next)).collect();
    assert_eq!(at, [(60, 7, 9), (120, 9, 10)]);
    assert_eq!(rows.first().map(|r| (r.counts.stored, r.counts.same_ts)), Some((4, 2)));
}

fn received(n: i64) -> Counts {
    Counts { records: 1, received: n, stored: n, ..Counts::default() }
}

#[test]
fn a_minute_begins_at_its_first_microsecond_before_1970_too() {
    let mut ledger = Ledger::default();
    for at in [-1, 0, MINUTE - 1, MINUTE] {
        ledger.count(None, at, 0, &received(1));
    }
    let rows = rows_of(&ledger.rows(0, 0).expect("schema"));
    let counted: Vec<_> = rows.iter().map(|r| (r.minute, r.counts.received)).collect();
    assert_eq!(counted, [(-MINUTE, 1), (0, 2), (MINUTE, 1)]);
}

#[test]
fn every_count_comes_back_in_its_own_place() {
    let counts = Counts {
        records: 1,
        received: 2,
        stored: 3,
        heartbeats: 4,
        noted: 5,
        duplicates: 6,
        dead_letters: 7,
        same_ts: 8,
        replayed: 9,
        internal: 10,
    };
    let mut ledger = Ledger::default();
    ledger.count(None, 0, 41, &counts);
    let rows = rows_of(&ledger.rows(2, 3).expect("schema"));
    let first = Position { partition: 3, offset: 41 };
    assert_eq!(rows, [LedgerRow { minute: 0, counts, first, next: 42 }]);
    let mut twice = counts;
    twice.add(&counts);
    ledger.count(None, 1, 43, &counts);
    assert_eq!(ledger.total(), twice);
    assert_eq!(twice.internal, 20);
}

/// The only count that must be 0: what it misses is lost readings, what it adds hides them.
#[test]
fn what_was_received_and_is_nowhere_is_unaccounted() {
    let whole = Counts {
        records: 3,
        received: 21,
        stored: 1,
        heartbeats: 2,
        noted: 3,
        duplicates: 4,
        dead_letters: 5,
        same_ts: 6,
        replayed: 7,
        internal: 8,
    };
    assert_eq!(whole.unaccounted(), 0);
    for lost in [
        Counts { stored: 0, ..whole },
        Counts { heartbeats: 1, ..whole },
        Counts { noted: 2, ..whole },
        Counts { duplicates: 3, ..whole },
        Counts { dead_letters: 4, ..whole },
        Counts { same_ts: 5, ..whole },
        Counts { received: 22, ..whole },
    ] {
        assert_eq!(lost.unaccounted(), 1, "{lost:?}");
    }
    // Neither what was replayed nor records of ingest are a place of their own.
    assert_eq!(Counts { replayed: 0, internal: 0, records: 0, ..whole }.unaccounted(), 0);
}

#[test]
fn devices_have_rows_of_their_own_that_no_total_counts() {
    let device: Arc<str> = "d1".into();
    let mut ledger = Ledger::default();
    assert!(ledger.is_empty() && ledger.first_offset().is_none() && ledger.memory() == 0);
    ledger.count(Some(&device), 0, 3, &received(5));
    ledger.count(None, 0, 4, &received(7));
    assert_eq!((ledger.total().received, ledger.first_offset()), (7, Some(3)));
    let batch = ledger.rows(0, 1).expect("schema");
    let devices = batch.column_by_name("device_id").expect("devices").as_string::<i32>();
    assert_eq!(devices.iter().collect::<Vec<_>>(), [None, Some("d1")]);
    assert_eq!(rows_of(&batch).len(), 1);
    // The offset of a row is the last that it counts: a commit is found by it.
    let offsets = batch.column_by_name("offset").expect("offset").as_primitive::<Int64Type>();
    assert_eq!(offsets.values().as_ref(), &[4, 3]);
    let one = ledger.memory() / 2;
    ledger.count(Some(&device), 1, 9, &received(1));
    assert_eq!(ledger.memory(), 2 * one, "the same minute and device");
    ledger.count(Some(&device), MINUTE, 9, &received(1));
    assert_eq!(ledger.memory(), 3 * one);
}

#[test]
fn merging_widens_the_offsets_whichever_comes_first() {
    let of = |offset: i64| {
        let mut ledger = Ledger::default();
        ledger.count(None, 0, offset, &received(1));
        ledger
    };
    for (one, other) in [(3, 9), (9, 3)] {
        let mut ledger = of(one);
        ledger.merge(&of(other));
        let rows = rows_of(&ledger.rows(0, 0).expect("schema"));
        assert_eq!((rows[0].first.offset, rows[0].next, rows[0].counts.received), (3, 10, 2));
        ledger.merge(&Ledger::default());
        assert_eq!(rows_of(&ledger.rows(0, 0).expect("schema")), rows);
    }
}

#[test]
fn rows_of_an_earlier_version_have_no_readings_of_the_same_time() {
    let mut ledger = Ledger::default();
    ledger.count(None, 0, 0, &Counts { same_ts: 5, received: 5, ..Counts::default() });
    let batch = ledger.rows(0, 0).expect("schema");
    let index = batch.schema().index_of("same_ts").expect("a column");
    let mut columns = batch.columns().to_vec();
    columns[index] = Arc::new(Int64Array::from(vec![None::<i64>]));
    let earlier = RecordBatch::try_new(batch.schema(), columns).expect("schema");
    let rows = rows_of(&earlier);
    assert_eq!((rows[0].counts.same_ts, rows[0].counts.received), (0, 5));
    // A batch that is no ledger has no rows, and is no panic.
    assert!(rows_of(&RecordBatch::new_empty(Table::Heartbeats.schema())).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A flush merges what partitions counted in any order, and must come to the same rows.
    #[test]
    fn the_order_of_counting_and_merging_does_not_matter(
        records in proptest::collection::vec((0_i64..5 * MINUTE, 0_i64..100, 0_i64..9, any::<bool>()), 0..20),
        at in 0_usize..20,
    ) {
        let device: Arc<str> = "d1".into();
        let count = |records: &[(i64, i64, i64, bool)]| {
            let mut ledger = Ledger::default();
            for (received_at, offset, n, of_device) in records {
                ledger.count(of_device.then_some(&device), *received_at, *offset, &received(*n));
            }
            ledger
        };
        let (one, two) = records.split_at(at.min(records.len()));
        let (mut forth, mut back) = (count(one), count(two));
        forth.merge(&count(two));
        back.merge(&count(one));
        prop_assert_eq!(&forth, &count(&records));
        prop_assert_eq!(&forth, &back);
        let shown: i64 = rows_of(&forth.rows(0, 0).expect("schema")).iter().map(|r| r.counts.received).sum();
        prop_assert_eq!(shown, forth.total().received);
    }
}
