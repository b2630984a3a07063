//! Reads rows of the lake: those of the tables, those of the tail, or both as one.

use std::sync::Arc;

use acuvim_tables::Table;
use arrow::datatypes::DataType;
use datafusion::{
    logical_expr::{Expr, cast},
    prelude::{DataFrame, col, lit},
};

use super::{
    session::Engine,
    union::{UnionTable, View},
};
use crate::{
    delta::{
        Snapshot,
        tables::{Tables, no_table},
    },
    error::Error,
    memory::{Tail, TailBatch, uncommitted::rows_beyond},
};

/// Access to the rows of the lake. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub tables: Arc<Tables>,
    pub tail: Arc<Tail>,
    pub engine: Engine,
}

impl Reader {
    /// What a query sees from now on. A hot view contains all rows that were read from the log, any
    /// other only those of the tables.
    pub fn view(&self, hot: bool) -> Result<View, Error> {
        // The tail before the snapshots: rows that are flushed in between are then in both, and the cut
        // below removes one copy. The other way round they could be in neither.
        let (tail, next) = if hot {
            // The offsets before the rows, so that the watermark never claims rows that are missing.
            let next = self.tail.next_offsets();
            (self.tail.batches(), next)
        } else {
            (Vec::new(), Vec::new())
        };
        self.view_of(&tail, &next)
    }

    fn view_of(&self, tail: &[Vec<TailBatch>], next: &[Option<i64>]) -> Result<View, Error> {
        let mut tables = Vec::new();
        let mut telemetry = None;
        for table in self.tables.iter() {
            let snapshot = table.current();
            if table.kind == Table::Telemetry {
                telemetry = Some(Arc::clone(&snapshot));
            }
            let rows = rows_beyond(table.kind, tail, snapshot.covered(), &|_| true)?;
            tables.push(Arc::new(UnionTable::new(Arc::clone(table), snapshot, rows)));
        }
        let telemetry = telemetry.ok_or_else(no_table)?;
        let reach = |partition: u32| {
            let read = usize::try_from(partition).ok().and_then(|p| next.get(p).copied().flatten());
            let stored = telemetry.covered().get(&partition).copied().unwrap_or(0);
            // A follower can be behind what the writer has committed.
            read.unwrap_or(stored).max(stored)
        };
        let watermark = (0..self.tables.options.partitions).map(reach).collect();
        Ok(View { version: telemetry.version(), watermark, tables })
    }

    /// A table of the hot view.
    pub fn hot(&self, table: Table) -> Result<Arc<UnionTable>, Error> {
        self.view(true)?.table(table).ok_or_else(no_table)
    }

    /// The rows of one snapshot.
    pub fn files(&self, table: Table, snapshot: &Arc<Snapshot>) -> Result<Arc<UnionTable>, Error> {
        Ok(View::of_files(self.tables.get(table)?, snapshot))
    }

    /// The committed rows of a table.
    pub fn committed(&self, table: Table) -> Result<DataFrame, Error> {
        let snapshot = self.tables.snapshot(table)?;
        self.query(self.files(table, &snapshot)?)
    }

    /// Begins a query over the rows of a table.
    pub fn query(&self, rows: Arc<UnionTable>) -> Result<DataFrame, Error> {
        Ok(self.engine.session().read_table(rows as _)?)
    }

    /// The condition that a row comes from some records of a partition, in this epoch of the log.
    pub fn is_from(&self, partition: u32, offsets: std::ops::Range<i64>) -> Expr {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        col("partition")
            .eq(lit(partition))
            .and(col("epoch").eq(lit(self.tables.options.epoch)))
            .and(col("offset").gt_eq(lit(offsets.start)))
            .and(col("offset").lt(lit(offsets.end)))
    }

    /// The condition that a reading does not lie ahead of its arrival by more than clocks may differ.
    pub fn is_plausible(&self) -> Expr {
        let whole = |name: &str| cast(col(name), DataType::Int64);
        whole("ts").lt_eq(whole("received_at") + lit(self.tables.options.max_ahead))
    }
}
