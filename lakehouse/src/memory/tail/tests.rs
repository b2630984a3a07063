use std::sync::Arc;

use acuvim_tables::ledger::Counts;

use super::*;
use crate::testing::{T0, reading, telemetry};

#[test]
fn the_ledger_counts_towards_the_size() {
    let tail = Tail::new(1);
    tail.start(0, 0);
    let mut rows = Rows::none();
    let without = rows.size().bytes;
    for offset in 0..1000 {
        // A duplicate has no row, but the ledger names its device.
        let device: Arc<str> = format!("d{offset}").into();
        rows.ledger.count(Some(&device), 0, offset, &Counts::default());
    }
    tail.push(0, TailBatch { from: 0, next: 1000, rows });
    let bytes = tail.size().borrow().bytes;
    assert!(bytes > without + 100_000, "{bytes}");
    tail.trim(0, 1000);
    assert_eq!(*tail.size().borrow(), TailSize::default());
}

fn batch(from: i64, next: i64) -> TailBatch {
    let readings: Vec<_> = (from..next).map(|n| reading("a", T0 + n)).collect();
    let telemetry = telemetry(0, from, &readings);
    TailBatch { from, next, rows: Rows { telemetry, ..Rows::none() } }
}

#[test]
fn a_batch_that_is_covered_in_part_stays_whole() {
    let tail = Tail::new(2);
    tail.start(0, 0);
    for (from, next) in [(0, 3), (3, 6), (6, 8)] {
        tail.push(0, batch(from, next));
    }
    tail.trim(0, 5);
    assert_eq!(tail.batches()[0].iter().map(|b| b.from).collect::<Vec<_>>(), [3, 6]);
    assert_eq!((tail.rows(0), tail.size().borrow().rows), (5, 5));
    tail.trim(0, 6);
    assert_eq!(tail.rows(0), 2);
    tail.trim(0, 0);
    assert_eq!(tail.rows(0), 2, "nothing comes back or goes");
    assert_eq!(tail.next_offsets(), [Some(8), None], "what was read stays read");
}

#[test]
fn the_size_counts_every_partition_and_returns_to_nothing() {
    let tail = Tail::new(3);
    tail.push(0, batch(0, 4));
    tail.push(2, batch(0, 2));
    let size = *tail.size().borrow();
    assert_eq!(size.rows, 6);
    assert!(size.bytes > 0);
    tail.stop(0);
    assert_eq!(tail.size().borrow().rows, 2);
    tail.start(2, 9);
    assert_eq!(*tail.size().borrow(), TailSize::default());
    assert_eq!(tail.next_offsets(), [None, None, Some(9)]);
}

#[test]
fn partitions_that_do_not_exist_have_nothing() {
    let tail = Tail::new(1);
    tail.start(5, 0);
    tail.trim(5, 9);
    tail.stop(5);
    assert_eq!((tail.rows(5), tail.next_offsets()), (0, vec![None]));
}

#[test]
fn a_copy_of_the_batches_is_not_changed_by_what_follows() {
    let tail = Tail::new(1);
    tail.push(0, batch(0, 2));
    let before = tail.batches();
    tail.push(0, batch(2, 4));
    tail.trim(0, 2);
    assert_eq!((before[0].len(), before[0][0].next), (1, 2));
}
