//! A flush: writes rows of the tail to the tables, and commits them with the offsets they cover.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use acuvim_tables::Table;
use arrow::array::RecordBatch;

use super::{
    tail::{Tail, TailBatch},
    uncommitted::{MovedByOther, ledger_beyond, rows_beyond},
};
use crate::{
    delta::{
        Covered,
        commit::{Committed, Step},
        tables::Tables,
        writer::write_sorted,
    },
    error::{Error, ErrorKind},
};

/// The outcome of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flushed {
    /// There was nothing new to commit.
    Nothing,
    /// Everything is in the tables.
    Done {
        /// The first offset that `telemetry` does not cover now, for each partition that moved.
        covered: Covered,
        /// The number of rows written, by table name.
        rows: HashMap<&'static str, usize>,
    },
    /// Another writer has moved this partition in the meantime. Its rows were not committed, and the
    /// next flush begins where the other writer ended.
    Overtaken {
        /// The number of the partition in the log.
        partition: u32,
    },
}

/// Commits the rows that the tail holds now of some partitions. A few records of ingest itself wait for
/// more, unless this is the last flush. After an error the tail keeps its rows.
pub(crate) async fn flush(
    tables: &Tables,
    tail: &Tail,
    owned: &BTreeSet<u32>,
    last: bool,
) -> Result<Flushed, Error> {
    // A copy: rows that arrive from now on belong to the next flush, whatever this one takes.
    let batches = tail.batches();
    let ends: Covered = (0..)
        .zip(&batches)
        .filter(|(p, _)| owned.contains(p))
        .filter_map(|(p, b)| b.last().map(|last| (p, last.next)))
        .collect();
    if ends.is_empty() || (!last && is_idle(&batches, &ends)) {
        return Ok(Flushed::Nothing);
    }
    // Only `telemetry` is checked: it moves with every flush, the other tables only when they get rows.
    check_no_gap(&batches, tables.snapshot(Table::Telemetry)?.covered(), &ends)?;
    let flush = Flush { tables, batches: &batches, ends: &ends };
    let mut rows = HashMap::new();
    // `telemetry` last. A crash in between leaves the other tables ahead of it, and they skip what
    // they have when its records are read again.
    for table in Table::COMMIT_ORDER {
        match flush.table(table).await? {
            TableFlush::Wrote(count) => rows.insert(table.name(), count),
            TableFlush::Overtaken(partition) => return Ok(Flushed::Overtaken { partition }),
        };
    }
    for (partition, next) in &ends {
        // Only after all commits: until then a view takes these rows from the tail.
        tail.trim(*partition, *next);
    }
    Ok(Flushed::Done { covered: ends, rows })
}

/// The rows of one flush.
struct Flush<'a> {
    tables: &'a Tables,
    batches: &'a [Vec<TailBatch>],
    /// Where the rows of each partition end.
    ends: &'a Covered,
}

enum TableFlush {
    Wrote(usize),
    Overtaken(u32),
}

impl Flush<'_> {
    async fn table(&self, kind: Table) -> Result<TableFlush, Error> {
        let begun = Instant::now();
        let options = &self.tables.options;
        let table = self.tables.get(kind)?;
        let snapshot = table.current();
        let covered = snapshot.covered();
        // With a check switched off, all rows of the tail are written whatever the table covers.
        let nothing = Covered::new();
        let (skip, steps) = match options.guards.skip_by_offset() && options.guards.fence() {
            true => (covered, steps(covered, self.ends)),
            false => (&nothing, forced_steps(covered, self.ends)),
        };
        let rows = match self.rows(kind, skip)? {
            Ok(rows) => rows,
            Err(MovedByOther { partition }) => return Ok(TableFlush::Overtaken(partition)),
        };
        let count = rows.iter().map(|r| r.num_rows()).sum();
        // `telemetry` moves even without rows: its offset is where reading the log continues.
        if steps.is_empty() || (count == 0 && kind != Table::Telemetry) {
            return Ok(TableFlush::Wrote(0));
        }
        let adds = write_sorted(table, &rows).await?;
        tracing::debug!(table = kind.name(), rows = count, files = adds.len(), "flush written");
        let mut committed = table.append(adds.clone(), &steps).await?;
        // Without the fence the rows are committed over those of the other writer.
        while let (Committed::Overtaken(_), false) = (&committed, options.guards.fence()) {
            let steps = forced_steps(table.current().covered(), self.ends);
            committed = table.append(adds.clone(), &steps).await?;
        }
        if let Committed::Overtaken(partition) = committed {
            return Ok(TableFlush::Overtaken(partition));
        }
        metrics::counter!("acuvim_rows_stored_total", "table" => kind.name())
            .increment(count as u64);
        metrics::histogram!("acuvim_flush_seconds", "table" => kind.name()).record(begun.elapsed());
        tracing::debug!(table = kind.name(), rows = count, "flush committed");
        Ok(TableFlush::Wrote(count))
    }

    fn rows(
        &self,
        table: Table,
        skip: &Covered,
    ) -> Result<Result<Vec<RecordBatch>, MovedByOther>, Error> {
        let wanted = |partition| self.ends.contains_key(&partition);
        if table != Table::Ledger {
            return rows_beyond(table, self.batches, skip, &wanted).map(Ok);
        }
        let counted = match ledger_beyond(self.batches, skip, &wanted) {
            Ok(counted) => counted,
            Err(moved) => return Ok(Err(moved)),
        };
        let epoch = self.tables.options.epoch;
        let rows = counted.iter().map(|of| of.ledger.rows(epoch, of.partition));
        Ok(Ok(rows.collect::<Result<_, _>>()?))
    }
}

/// Checks that the tail begins no later than `telemetry` ends. The rows of a gap would be missing for
/// good once a commit covers their offsets.
fn check_no_gap(
    batches: &[Vec<TailBatch>],
    covered: &Covered,
    ends: &Covered,
) -> Result<(), Error> {
    for (partition, batches) in (0_u32..).zip(batches).filter(|(p, _)| ends.contains_key(p)) {
        let at = covered.get(&partition).copied().unwrap_or(0);
        if let Some(first) = batches.first().filter(|first| first.from > at) {
            return Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "partition {partition} is covered to {at} and its tail begins at {}: the \
                     tables were replaced or set back",
                    first.from
                ),
            ));
        }
    }
    Ok(())
}

/// The number of records of ingest itself that wait for a flush with rows. Ingest appends a pulse to
/// every partition every few seconds, which alone should not make new versions of the tables.
const MAX_IDLE_RECORDS: i64 = 256;

/// Whether the tail has no rows to write, and only a few records, none of them from devices. A message of
/// a device is committed even if it has no rows, so that the ledger counts it soon.
fn is_idle(batches: &[Vec<TailBatch>], ends: &Covered) -> bool {
    let ours = || (0_u32..).zip(batches).filter(|(p, _)| ends.contains_key(p)).flat_map(|(_, b)| b);
    let records: i64 = ours().map(|b| b.next - b.from).sum();
    let quiet = |b: &TailBatch| {
        let total = b.rows.ledger.total();
        let rows = |t: Table| b.rows.of(t).map_or(0, |rows| rows.num_rows());
        let rows: usize = Table::COMMIT_ORDER.into_iter().map(rows).sum();
        rows == 0 && total.received == 0 && total.internal >= total.records
    };
    records <= MAX_IDLE_RECORDS && ours().all(quiet)
}

/// A step for every partition of which the tail has more than the table.
fn steps(covered: &Covered, ends: &Covered) -> BTreeMap<u32, Step> {
    ends.iter()
        .map(|(p, next)| (*p, Step { expected: covered.get(p).copied(), next: *next }))
        .filter(|(_, step)| step.expected.is_none_or(|e| e < step.next))
        .collect()
}

/// A step for every partition, never backwards: what a writer without the offset check would commit.
/// Only used while tests switch the checks off.
fn forced_steps(covered: &Covered, ends: &Covered) -> BTreeMap<u32, Step> {
    ends.iter()
        .map(|(p, next)| {
            let expected = covered.get(p).copied();
            (*p, Step { expected, next: expected.map_or(*next, |e| e.max(*next)) })
        })
        .collect()
}

#[cfg(test)]
mod tests;
