//! A DataFusion table over a snapshot and the rows of the tail that it does not cover.

use std::sync::Arc;

use acuvim_tables::Table;
use arrow::{
    array::{RecordBatch, StringArray},
    compute::{
        concat_batches, filter_record_batch, kernels::cmp::eq, sort_to_indices, take_record_batch,
    },
    datatypes::SchemaRef,
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    datasource::{TableType, memory::MemorySourceConfig, source::DataSourceExec},
    error::{DataFusionError, Result},
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
};

use crate::{
    batch::column,
    delta::{
        Snapshot,
        file_groups::{Order, ordering},
        scan::{FileScan, one_device},
        snapshot::File,
        table::LakeTable,
    },
};

/// The lake at one moment. A query sees this, however long it runs.
#[derive(Debug, Clone)]
pub struct View {
    /// The Delta version of `telemetry`.
    pub version: i64,
    /// The first log offset whose rows it does not contain, per partition.
    pub watermark: Vec<i64>,
    /// Its tables, each with the rows that it has at that moment.
    pub tables: Vec<Arc<UnionTable>>,
}

/// A table of a [`View`].
#[derive(Debug)]
pub struct UnionTable {
    table: Arc<LakeTable>,
    snapshot: Arc<Snapshot>,
    tail: Vec<RecordBatch>,
    /// Whether scans of many devices keep the order of the files.
    ordered: bool,
}

impl View {
    /// The table of a kind.
    #[must_use]
    pub fn table(&self, table: Table) -> Option<Arc<UnionTable>> {
        self.tables.iter().find(|t| t.table.kind == table).cloned()
    }

    /// The rows of a snapshot without a tail.
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
        Self { table, snapshot, tail, ordered: true }
    }
}

#[async_trait]
impl TableProvider for UnionTable {
    fn schema(&self) -> SchemaRef {
        self.table.kind.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // Filters mainly prune files. Rows that do not match can remain, above all those of the tail.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // A dashboard asks for one device at a time, so this case is worth its own plan.
        let device = one_device(filters);
        // Rows of the tail are not sorted. Those of one device are few enough to sort here.
        let order = match (self.tail.is_empty() && self.ordered, device) {
            (true, _) | (_, Some(_)) => Order::IfCheap,
            (false, None) => Order::None,
        };
        let files = FileScan {
            table: &self.table,
            files: self.snapshot.files.clone(),
            projection,
            filters,
            limit,
            order,
        };
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = files.plan(session)?.into_iter().collect();
        inputs.extend(self.plan_tail(device, projection)?);
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

impl UnionTable {
    /// The same table with only some of its files.
    pub(crate) fn only(&self, which: impl Fn(&File) -> bool) -> Self {
        let snapshot = Arc::new(self.snapshot.only(which));
        Self::new(Arc::clone(&self.table), snapshot, self.tail.clone())
    }

    /// The same table without the order of rows, for queries that do not need it: aggregating sorted
    /// rows takes twice as long as aggregating by hash.
    #[must_use]
    pub fn in_any_order(&self) -> Self {
        let (table, snapshot) = (Arc::clone(&self.table), Arc::clone(&self.snapshot));
        Self { table, snapshot, tail: self.tail.clone(), ordered: false }
    }

    /// A plan of the tail's rows. If the query is for one device, only its rows, sorted as in the files.
    fn plan_tail(
        &self,
        device: Option<&str>,
        projection: Option<&Vec<usize>>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(device) = device else {
            if self.tail.is_empty() {
                return Ok(None);
            }
            let rows = std::slice::from_ref(&self.tail);
            let plan = MemorySourceConfig::try_new_exec(rows, self.schema(), projection.cloned())?;
            return Ok(Some(plan));
        };
        let theirs = rows_of(&self.tail, device)?;
        if theirs.is_empty() {
            return Ok(None);
        }
        let rows = sorted(self.table.kind, &theirs)?;
        let source =
            MemorySourceConfig::try_new(&[vec![rows]], self.schema(), projection.cloned())?
                .try_with_sort_information(vec![ordering(self.table.kind)?])?;
        Ok(Some(DataSourceExec::from_data_source(source)))
    }
}

fn rows_of(tail: &[RecordBatch], device: &str) -> Result<Vec<RecordBatch>> {
    let device = StringArray::new_scalar(device);
    let mut found = Vec::new();
    for rows in tail {
        let ids = column(rows, "device_id").map_err(|e| DataFusionError::External(Box::new(e)))?;
        let theirs = eq(ids, &device)?;
        // Most batches have no row of the device. Filtering all their forty columns would be wasted.
        if theirs.true_count() > 0 {
            found.push(filter_record_batch(rows, &theirs)?);
        }
    }
    Ok(found)
}

fn sorted(table: Table, rows: &[RecordBatch]) -> Result<RecordBatch> {
    let rows = concat_batches(&table.schema(), rows)?;
    let [_, time] = table.sort_columns();
    let times = column(&rows, time).map_err(|e| DataFusionError::External(Box::new(e)))?;
    Ok(take_record_batch(&rows, &sort_to_indices(times, None, None)?)?)
}

#[cfg(test)]
mod tests;
