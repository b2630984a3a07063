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
    // Binary search: a tail of minutes is cut for every query.
    let first = offsets.values().partition_point(|o| *o < from);
    Ok(rows.slice(first, offsets.len() - first))
}

#[cfg(test)]
mod tests;
