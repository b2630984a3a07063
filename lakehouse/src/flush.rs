//! A flush: the tail's rows into the tables, each with the offsets it covers, `telemetry` last.

use std::{
    collections::{BTreeMap, HashMap},
    sync::PoisonError,
    time::Instant,
};

use acuvim_schemas::tables::Table;

use crate::{
    Covered, Error, Lake, TailBatch,
    table::{Committed, Step},
    tail::beyond,
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
    /// Another writer has moved this partition: what this process holds of it is not its own.
    Overtaken {
        /// Which partition.
        partition: u32,
    },
}

impl Lake {
    /// Writes and commits everything in the tail at this moment.
    ///
    /// # Errors
    /// When the store fails; the tail keeps its rows, and the next flush tries again.
    pub async fn flush(&self) -> Result<Flushed, Error> {
        let batches = self.tail().batches();
        let ends: Covered =
            (0..).zip(&batches).filter_map(|(p, b)| b.last().map(|last| (p, last.next))).collect();
        if ends.is_empty() {
            return Ok(Flushed::Nothing);
        }
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
        let believed = self.believes(table);
        let skip = if self.options.skip_by_offset { believed.clone() } else { Covered::new() };
        let rows = beyond(table, batches, &skip)?;
        let count = rows.iter().map(|r| r.num_rows()).sum();
        let steps = if self.options.skip_by_offset {
            steps(&believed, ends)
        } else {
            forced_steps(&believed, ends)
        };
        if steps.is_empty() || (count == 0 && table != Table::Telemetry) {
            return Ok(TableFlush::Wrote(0));
        }
        let lake_table = self.table(table)?;
        let adds = write_sorted(lake_table, &rows).await?;
        tracing::debug!(table = table.name(), rows = count, files = adds.len(), "flush written");
        match lake_table.append(adds, &steps).await? {
            Committed::Overtaken(partition) => return Ok(TableFlush::Overtaken(partition)),
            Committed::Done => self.believe(table, steps),
        }
        metrics::counter!("acuvim_rows_stored_total", "table" => table.name())
            .increment(count as u64);
        metrics::histogram!("acuvim_flush_seconds", "table" => table.name())
            .record(begun.elapsed());
        tracing::debug!(table = table.name(), rows = count, "flush committed");
        Ok(TableFlush::Wrote(count))
    }

    fn believe(&self, table: Table, steps: BTreeMap<u32, Step>) {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = believed.entry(table).or_default();
        believed.extend(steps.into_iter().map(|(partition, step)| (partition, step.next)));
    }
}

enum TableFlush {
    Wrote(usize),
    Overtaken(u32),
}

/// A step for every partition that has come further than the table covers.
fn steps(believed: &Covered, ends: &Covered) -> BTreeMap<u32, Step> {
    ends.iter()
        .map(|(p, next)| (*p, Step { expected: believed.get(p).copied(), next: *next }))
        .filter(|(_, step)| step.expected.is_none_or(|e| e < step.next))
        .collect()
}

/// A step for every partition, never back: what a writer that ignores offsets would commit.
fn forced_steps(believed: &Covered, ends: &Covered) -> BTreeMap<u32, Step> {
    ends.iter()
        .map(|(p, next)| {
            let expected = believed.get(p).copied();
            (*p, Step { expected, next: expected.map_or(*next, |e| e.max(*next)) })
        })
        .collect()
}
