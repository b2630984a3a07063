use std::sync::Arc;

use acuvim_tables::ledger::Counts;
use arrow::array::{ArrayRef, Int64Array};

use super::*;
use crate::memory::tail::Rows;

fn batch(from: i64, next: i64) -> TailBatch {
    let offsets: ArrayRef = Arc::new(Int64Array::from_iter_values(from..next));
    let telemetry = RecordBatch::try_from_iter([("offset", offsets)]).expect("rows");
    TailBatch { from, next, rows: Rows { telemetry, ..Rows::none() } }
}

fn offsets(rows: &[RecordBatch]) -> Vec<i64> {
    let of = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    rows.iter().flat_map(of).collect()
}

#[test]
fn rows_that_a_snapshot_covers_are_cut_off_even_within_a_batch() {
    let tail = [vec![batch(0, 3), batch(3, 6)], vec![batch(0, 2)]];
    let covered = Covered::from([(0, 4)]);
    let beyond = |wanted: &dyn Fn(u32) -> bool| {
        offsets(&rows_beyond(Table::Telemetry, &tail, &covered, wanted).expect("rows"))
    };
    assert_eq!(beyond(&|_| true), [4, 5, 0, 1]);
    assert_eq!(beyond(&|partition| partition == 0), [4, 5]);
}

#[test]
fn counts_that_are_covered_in_part_belong_to_another_writer() {
    let mut counted = batch(0, 10);
    for offset in 2..10 {
        counted.rows.ledger.count(None, 0, offset, &Counts::default());
    }
    let tail = [vec![counted]];
    let beyond = |covered| ledger_beyond(&tail, &Covered::from([(0, covered)]), &|_| true);
    assert_eq!(beyond(2).expect("nothing is covered").len(), 1);
    assert_eq!(beyond(5).expect_err("part of it"), MovedByOther { partition: 0 });
    assert!(beyond(10).expect("all of it").is_empty());
}

#[test]
fn the_edges_of_a_batch_belong_to_one_side_only() {
    let tail = [vec![batch(3, 6)]];
    let beyond = |covered: i64| {
        let covered = Covered::from([(0, covered)]);
        offsets(&rows_beyond(Table::Telemetry, &tail, &covered, &|_| true).expect("rows"))
    };
    assert_eq!(beyond(2), [3, 4, 5]);
    assert_eq!(beyond(3), [3, 4, 5]);
    assert_eq!(beyond(4), [4, 5]);
    assert_eq!(beyond(5), [5]);
    assert_eq!(beyond(6), [0_i64; 0]);
    assert_eq!(beyond(9), [0_i64; 0]);
}

#[test]
fn a_record_with_many_rows_is_cut_before_or_behind_all_of_them() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![3, 4, 4, 4, 7]));
    let telemetry = RecordBatch::try_from_iter([("offset", column)]).expect("rows");
    let rows = Rows { telemetry, ..Rows::none() };
    let tail = [vec![TailBatch { from: 3, next: 9, rows }]];
    let beyond = |covered: i64| {
        let covered = Covered::from([(0, covered)]);
        offsets(&rows_beyond(Table::Telemetry, &tail, &covered, &|_| true).expect("rows"))
    };
    assert_eq!(beyond(4), [4, 4, 4, 7]);
    assert_eq!(beyond(5), [7]);
    assert_eq!(beyond(8), [0_i64; 0], "the last records had no rows");
}

#[test]
fn tables_without_a_tail_have_no_rows_there() {
    let tail = [vec![batch(0, 3)]];
    for table in [Table::Ledger, Table::AlertEvents, Table::Rollup15m] {
        let rows = rows_beyond(table, &tail, &Covered::new(), &|_| true).expect("rows");
        assert!(rows.is_empty(), "{table:?}");
    }
}

#[test]
fn the_ledgers_of_a_partition_are_one() {
    let counted = |from: i64, next: i64| {
        let mut batch = batch(from, next);
        let counts = Counts { records: 1, ..Counts::default() };
        (from..next).for_each(|offset| batch.rows.ledger.count(None, 0, offset, &counts));
        batch
    };
    let tail = [vec![counted(0, 3), counted(3, 5)], vec![batch(0, 2)], vec![counted(0, 1)]];
    let covered = Covered::from([(0, 3)]);
    let beyond = ledger_beyond(&tail, &covered, &|partition| partition < 2).expect("ledgers");
    let found: Vec<_> = beyond.iter().map(|of| (of.partition, of.ledger.total().records)).collect();
    assert_eq!(found, [(0, 2)], "a partition without counts has no ledger");
    assert_eq!(beyond[0].ledger.first_offset(), Some(3));
}
