//! The union of a snapshot and the tail beyond exactly its offsets, as a DataFusion table.

use std::sync::Arc;

use acuvim_schemas::tables::Table;
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
    Snapshot,
    files::{FileScan, Order, one_device, ordering},
    snapshot::File,
    table::LakeTable,
    writer::column,
};

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
    /// Whether a scan of many devices says in which order its rows come.
    ordered: bool,
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
        Self { table, snapshot, tail, ordered: true }
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
        let device = one_device(filters);
        // In memory nothing is sorted; one device's rows are few enough to be.
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
    /// The same with some of its files alone.
    pub(crate) fn only(&self, which: impl Fn(&File) -> bool) -> Self {
        let snapshot = Arc::new(self.snapshot.only(which));
        Self::new(Arc::clone(&self.table), snapshot, self.tail.clone())
    }

    /// The same for a question that has no use for the order of many devices' rows: aggregates over
    /// sorted rows cost twice what they do over rows in any order.
    #[must_use]
    pub fn in_any_order(&self) -> Self {
        let (table, snapshot) = (Arc::clone(&self.table), Arc::clone(&self.snapshot));
        Self { table, snapshot, tail: self.tail.clone(), ordered: false }
    }

    /// The tail's rows; of one device only its own, sorted as in the files.
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
        let rows = sorted(self.table.table, &theirs)?;
        let source =
            MemorySourceConfig::try_new(&[vec![rows]], self.schema(), projection.cloned())?
                .try_with_sort_information(vec![ordering(self.table.table)?])?;
        Ok(Some(DataSourceExec::from_data_source(source)))
    }
}

fn rows_of(tail: &[RecordBatch], device: &str) -> Result<Vec<RecordBatch>> {
    let device = StringArray::new_scalar(device);
    let mut found = Vec::new();
    for rows in tail {
        let ids = column(rows, "device_id").map_err(|e| DataFusionError::External(Box::new(e)))?;
        let theirs = eq(ids, &device)?;
        // Most batches have none of a device, and forty columns to find that out in.
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
