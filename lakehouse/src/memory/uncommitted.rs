//! The rows of the tail that a snapshot does not cover yet.

use acuvim_tables::{Table, ledger::Ledger};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};

use super::tail::TailBatch;
use crate::{batch::column, delta::Covered, error::Error};

/// The rows of a table that `covered` does not include, in the wanted partitions.
/// Batches that are covered in part are cut.
pub(crate) fn rows_beyond(
    table: Table,
    batches: &[Vec<TailBatch>],
    covered: &Covered,
    wanted: &dyn Fn(u32) -> bool,
) -> Result<Vec<RecordBatch>, Error> {
    let mut rows = Vec::new();
    for (partition, batches) in (0_u32..).zip(batches).filter(|(p, _)| wanted(*p)) {
        // If no commit has moved the partition, nothing of it is covered.
        let covered = covered.get(&partition).copied().unwrap_or(i64::MIN);
        for batch in batches.iter().filter(|b| b.next > covered) {
            let Some(held) = batch.rows.of(table) else { continue };
            let held = if batch.from >= covered { held.clone() } else { cut(held, covered)? };
            if held.num_rows() > 0 {
                rows.push(held);
            }
        }
    }
    Ok(rows)
}

/// The counts of the records of a partition.
#[derive(Debug)]
pub(super) struct PartitionLedger {
    pub partition: u32,
    pub ledger: Ledger,
}

/// The counts of the batches that the table `ledger` does not cover.
///
/// Counts of a batch can't be cut. They were made by a reader that began where the table was, so if the
/// table now ends inside a batch, another writer has moved the partition.
pub(super) fn ledger_beyond(
    batches: &[Vec<TailBatch>],
    covered: &Covered,
    wanted: &dyn Fn(u32) -> bool,
) -> Result<Vec<PartitionLedger>, MovedByOther> {
    let mut all = Vec::new();
    for (partition, batches) in (0_u32..).zip(batches).filter(|(p, _)| wanted(*p)) {
        let covered = covered.get(&partition).copied().unwrap_or(i64::MIN);
        let mut ledger = Ledger::default();
        for batch in batches.iter().filter(|b| b.next > covered) {
            if batch.rows.ledger.first_offset().is_some_and(|first| first < covered) {
                return Err(MovedByOther { partition });
            }
            ledger.merge(&batch.rows.ledger);
        }
        if !ledger.is_empty() {
            all.push(PartitionLedger { partition, ledger });
        }
    }
    Ok(all)
}

/// Another writer has moved the offset of this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MovedByOther {
    pub partition: u32,
}

/// The rows from an offset on. Rows are in the order of their offsets.
fn cut(rows: &RecordBatch, from: i64) -> Result<RecordBatch, Error> {
    let offsets = column(rows, "offset")?.as_primitive::<Int64Type>();
    let first = offsets.values().partition_point(|o| *o < from);
    Ok(rows.slice(first, offsets.len() - first))
}

#[cfg(test)]
mod tests {
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
        let of =
            |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
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
}
