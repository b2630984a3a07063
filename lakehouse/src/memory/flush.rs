//! A flush: the tail's rows into the tables, each with the offsets it covers, `telemetry` last.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use acuvim_schemas::tables::Table;

use crate::{
    Covered, Error, Lake, TailBatch,
    table::{Committed, Step},
    tail::{Moved, beyond, ledger_beyond},
    writer::write_sorted,
};

/// What became of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flushed {
    /// There was nothing new to cover.
    Nothing,
    /// All of it is in the tables.
    Done {
        /// The next offset behind what `telemetry` covers now, per partition that moved.
        covered: Covered,
        /// Rows written, by table name.
        rows: HashMap<&'static str, usize>,
    },
    /// Another writer has moved this partition in between. Nothing was committed; the next flush
    /// begins at what that one left.
    Overtaken {
        /// Which partition.
        partition: u32,
    },
}

impl Lake {
    /// Writes and commits what the tail has at this moment of the partitions that are owned. A few
    /// records without rows wait for more, unless it is the `last` flush.
    ///
    /// # Errors
    /// When the store fails; the tail keeps its rows, and the next flush tries again.
    pub async fn flush(&self, last: bool) -> Result<Flushed, Error> {
        let owned = self.owned();
        let batches = self.tail().batches();
        let ends: Covered = (0..)
            .zip(&batches)
            .filter(|(p, _)| owned.contains(p))
            .filter_map(|(p, b)| b.last().map(|last| (p, last.next)))
            .collect();
        if ends.is_empty() || (!last && is_idle(&batches, &ends)) {
            return Ok(Flushed::Nothing);
        }
        // The other tables' offsets move only with rows, so `telemetry` speaks for them.
        check_no_gap(&batches, self.snapshot(Table::Telemetry)?.covered(), &ends)?;
        let mut rows = HashMap::new();
        for table in Table::COMMIT_ORDER {
            match self.flush_table(table, &batches, &ends).await? {
                TableFlush::Wrote(count) => rows.insert(table.name(), count),
                TableFlush::Overtaken(partition) => return Ok(Flushed::Overtaken { partition }),
            };
        }
        for (partition, next) in &ends {
            self.tail().trim(*partition, *next);
        }
        Ok(Flushed::Done { covered: ends, rows })
    }

    async fn flush_table(
        &self,
        table: Table,
        batches: &[Vec<TailBatch>],
        ends: &Covered,
    ) -> Result<TableFlush, Error> {
        let begun = Instant::now();
        let lake_table = self.table(table)?;
        let snapshot = lake_table.current();
        let covered = snapshot.covered();
        let nothing = Covered::new();
        let (skip, steps) = if self.options.skip_by_offset && self.options.fence {
            (covered, steps(covered, ends))
        } else {
            (&nothing, forced_steps(covered, ends))
        };
        let wanted = |partition| ends.contains_key(&partition);
        let rows = match table {
            Table::Ledger => match ledger_beyond(batches, skip, &wanted) {
                Ok(counted) => counted
                    .iter()
                    .map(|(partition, ledger)| ledger.rows(self.options.epoch, *partition))
                    .collect::<Result<_, _>>()?,
                Err(Moved(partition)) => return Ok(TableFlush::Overtaken(partition)),
            },
            _ => beyond(table, batches, skip, &wanted)?,
        };
        let count = rows.iter().map(|r| r.num_rows()).sum();
        if steps.is_empty() || (count == 0 && table != Table::Telemetry) {
            return Ok(TableFlush::Wrote(0));
        }
        let adds = write_sorted(lake_table, &rows).await?;
        tracing::debug!(table = table.name(), rows = count, files = adds.len(), "flush written");
        let mut committed = lake_table.append(adds.clone(), &steps).await?;
        while let (Committed::Overtaken(_), false) = (&committed, self.options.fence) {
            let steps = forced_steps(lake_table.current().covered(), ends);
            committed = lake_table.append(adds.clone(), &steps).await?;
        }
        if let Committed::Overtaken(partition) = committed {
            return Ok(TableFlush::Overtaken(partition));
        }
        metrics::counter!("acuvim_rows_stored_total", "table" => table.name())
            .increment(count as u64);
        metrics::histogram!("acuvim_flush_seconds", "table" => table.name())
            .record(begun.elapsed());
        tracing::debug!(table = table.name(), rows = count, "flush committed");
        Ok(TableFlush::Wrote(count))
    }
}

/// A tail that begins behind what `telemetry` covers has lost what lies between: nothing may be
/// committed over that.
fn check_no_gap(
    batches: &[Vec<TailBatch>],
    covered: &Covered,
    ends: &Covered,
) -> Result<(), Error> {
    for (partition, batches) in (0_u32..).zip(batches).filter(|(p, _)| ends.contains_key(p)) {
        let at = covered.get(&partition).copied().unwrap_or(0);
        if let Some(first) = batches.first().filter(|first| first.from > at) {
            return Err(Error::new(
                crate::ErrorKind::Internal,
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

/// Records without rows that may wait for a flush: a log in which nobody but ingest says anything
/// needs no new versions of the tables.
const IDLE: i64 = 256;

/// Whether there are no rows to write, and few records without any.
fn is_idle(batches: &[Vec<TailBatch>], ends: &Covered) -> bool {
    let ours = || (0_u32..).zip(batches).filter(|(p, _)| ends.contains_key(p)).flat_map(|(_, b)| b);
    let records: i64 = ours().map(|b| b.next - b.from).sum();
    let quiet = |b: &TailBatch| {
        let total = b.rows.ledger.total();
        let rows = |t: Table| b.rows.of(t).map_or(0, |rows| rows.num_rows());
        let rows: usize = Table::COMMIT_ORDER.into_iter().map(rows).sum();
        rows == 0 && total.received == 0 && total.internal >= total.records
    };
    records <= IDLE && ours().all(quiet)
}

enum TableFlush {
    Wrote(usize),
    Overtaken(u32),
}

/// A step for every partition that has come further than the table covers.
fn steps(covered: &Covered, ends: &Covered) -> BTreeMap<u32, Step> {
    ends.iter()
        .map(|(p, next)| (*p, Step { expected: covered.get(p).copied(), next: *next }))
        .filter(|(_, step)| step.expected.is_none_or(|e| e < step.next))
        .collect()
}

/// A step for every partition, never back: what a writer that ignores offsets would commit.
fn forced_steps(covered: &Covered, ends: &Covered) -> BTreeMap<u32, Step> {
    ends.iter()
        .map(|(p, next)| {
            let expected = covered.get(p).copied();
            (*p, Step { expected, next: expected.map_or(*next, |e| e.max(*next)) })
        })
        .collect()
}
