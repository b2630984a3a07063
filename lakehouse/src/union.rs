//! The union of a snapshot and the tail beyond exactly its offsets, as a DataFusion table.

use std::sync::Arc;

use acuvim_schemas::tables::Table;
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    datasource::{TableType, memory::MemorySourceConfig},
    error::Result,
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
};

use crate::{files::FileScan, table::LakeTable, table::Snapshot};

/// One moment of the lake: what a query sees, however long it runs.
#[derive(Debug, Clone)]
pub struct View {
    /// The Delta version of `telemetry`.
    pub version: i64,
    /// The next log offset behind its rows, per partition.
    pub watermark: Vec<i64>,
    /// The tables.
    pub tables: Vec<Arc<UnionTable>>,
}

/// A table of a [`View`].
#[derive(Debug)]
pub struct UnionTable {
    table: Arc<LakeTable>,
    snapshot: Arc<Snapshot>,
    tail: Vec<RecordBatch>,
}

impl View {
    /// The table of that kind.
    #[must_use]
    pub fn table(&self, table: Table) -> Option<Arc<UnionTable>> {
        self.tables.iter().find(|t| t.table.table == table).cloned()
    }

    /// A snapshot's rows alone.
    pub(crate) fn of_files(table: &Arc<LakeTable>, snapshot: &Arc<Snapshot>) -> Arc<UnionTable> {
        Arc::new(UnionTable::new(Arc::clone(table), Arc::clone(snapshot), Vec::new()))
    }
}

impl UnionTable {
    pub(crate) const fn new(
        table: Arc<LakeTable>,
        snapshot: Arc<Snapshot>,
        tail: Vec<RecordBatch>,
    ) -> Self {
        Self { table, snapshot, tail }
    }
}

#[async_trait]
impl TableProvider for UnionTable {
    fn schema(&self) -> SchemaRef {
        self.table.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = FileScan {
            table: &self.table,
            files: self.snapshot.files.clone(),
            projection,
            filters,
            limit,
            sorted: false,
        };
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = files.plan(session)?.into_iter().collect();
        if !self.tail.is_empty() {
            let rows = std::slice::from_ref(&self.tail);
            let tail = MemorySourceConfig::try_new_exec(rows, self.schema(), projection.cloned())?;
            inputs.push(tail);
        }
        if inputs.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        UnionExec::try_new(inputs)
    }
}
