//! A scan over a snapshot's files: pruned by day and time, with the predicate pushed down.

use std::sync::Arc;

use acuvim_schemas::{
    tables::{DATE, Table},
    time::DAY,
};
use arrow::{
    array::{ArrayRef, BooleanArray, Date32Array, TimestampMicrosecondArray, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    catalog::Session,
    common::{
        Column, DFSchema, ScalarValue, Statistics, pruning::PruningStatistics, stats::Precision,
    },
    config::TableParquetOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::Result,
    logical_expr::{Expr, utils::conjunction},
    physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, expressions},
    physical_optimizer::pruning::PruningPredicateBuilder,
    physical_plan::ExecutionPlan,
};
use std::collections::HashSet;

use crate::table::{File, LakeTable};

/// What a scan reads.
pub(crate) struct FileScan<'a> {
    pub table: &'a LakeTable,
    pub files: Vec<File>,
    pub projection: Option<&'a Vec<usize>>,
    pub filters: &'a [Expr],
    pub limit: Option<usize>,
    /// One partition per file, declared sorted: what a merge needs.
    pub sorted: bool,
}

impl FileScan<'_> {
    /// The plan; none if no file can have a row that passes the filters.
    pub fn plan(self, session: &dyn Session) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let url = self.table.log_store.object_store_url();
        session
            .runtime_env()
            .register_object_store(url.as_ref(), self.table.log_store.object_store(None));
        let schema = table_schema(self.table.table);
        let predicate = predicate(session, self.filters, schema.table_schema())?;
        let files = prune(self.table.table, self.files, predicate.as_ref(), schema.table_schema())?;
        if files.is_empty() {
            return Ok(None);
        }
        let target = session.config().target_partitions();
        let files = FileGroup::new(files.into_iter().map(|f| partitioned(f, &schema)).collect());
        let groups = if self.sorted {
            files.into_inner().into_iter().map(|f| FileGroup::new(vec![f])).collect()
        } else {
            files.split_files(target)
        };
        let options = TableParquetOptions {
            global: session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let mut source = ParquetSource::new(schema.clone()).with_table_parquet_options(options);
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }
        let mut config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(self.projection.cloned())?
            .with_limit(self.limit);
        if self.sorted {
            config = config.with_output_ordering(vec![ordering(self.table.table)?]);
        }
        Ok(Some(DataSourceExec::from_data_source(config.build())))
    }
}

/// The order of rows inside each file.
pub(crate) fn ordering(table: Table) -> Result<LexOrdering> {
    let schema = table.schema();
    let columns = table
        .sort_columns()
        .into_iter()
        .map(|name| Ok(PhysicalSortExpr::new_default(expressions::col(name, &schema)?)))
        .collect::<Result<Vec<_>>>()?;
    LexOrdering::new(columns)
        .ok_or_else(|| datafusion::error::DataFusionError::Internal("no sort columns".to_owned()))
}

fn table_schema(table: Table) -> TableSchema {
    let schema = table.schema();
    let columns = schema.fields().iter().filter(|f| f.name() != DATE).cloned();
    let file_schema = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
    TableSchema::builder(file_schema)
        .with_table_partition_cols(vec![Arc::new(Field::new(DATE, DataType::Date32, false))])
        .build()
}

fn predicate(
    session: &dyn Session,
    filters: &[Expr],
    schema: &SchemaRef,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(filter) = conjunction(filters.iter().filter(|f| !f.is_volatile()).cloned()) else {
        return Ok(None);
    };
    session.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(schema))?).map(Some)
}

fn partitioned(file: File, schema: &TableSchema) -> PartitionedFile {
    let mut statistics = Statistics::new_unknown(schema.file_schema());
    statistics.num_rows = file.rows.map_or(Precision::Absent, Precision::Exact);
    PartitionedFile::new_from_meta(file.meta)
        .with_partition_values(vec![ScalarValue::Date32(Some(file.date))])
        .with_statistics(Arc::new(statistics))
}

fn prune(
    table: Table,
    files: Vec<File>,
    predicate: Option<&Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
) -> Result<Vec<File>> {
    let Some(predicate) = predicate else { return Ok(files) };
    let pruning = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .try_build(Arc::clone(predicate))?;
    let keep = pruning.prune(&Days { table, files: &files })?;
    Ok(files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
}

/// What a file's day says about its rows: `date` is it, and the time column lies within it.
struct Days<'a> {
    table: Table,
    files: &'a [File],
}

impl Days<'_> {
    fn bound(&self, column: &Column, days: i64, less: i64) -> Option<ArrayRef> {
        let [_, time] = self.table.sort_columns();
        if column.name == DATE {
            let dates = self.files.iter().map(|f| f.date);
            Some(Arc::new(Date32Array::from_iter_values(dates)))
        } else if column.name == time {
            let times = self.files.iter().map(|f| (i64::from(f.date) + days) * DAY - less);
            let times = TimestampMicrosecondArray::from_iter_values(times);
            Some(Arc::new(times.with_timezone("UTC")))
        } else {
            None
        }
    }
}

impl PruningStatistics for Days<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, 0, 0)
    }
    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, 1, 1)
    }
    fn num_containers(&self) -> usize {
        self.files.len()
    }
    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let [_, time] = self.table.sort_columns();
        (column.name == DATE || column.name == time)
            .then(|| Arc::new(UInt64Array::from(vec![0; self.files.len()])) as ArrayRef)
    }
    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.files.iter().map(|f| f.rows.and_then(|r| u64::try_from(r).ok()));
        Some(Arc::new(UInt64Array::from_iter(rows)))
    }
    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
