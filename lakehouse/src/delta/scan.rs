//! A scan over the files of a snapshot: pruned, with the predicate pushed down, and sorted where that
//! is cheap.
//!
//! Used instead of delta-rs's table provider: schema and types are the files' own, days are pruned by
//! `ts` as well as by `date`, and compaction gets its sorted merge from the same scan.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::{
    catalog::Session,
    common::{DFSchema, ScalarValue},
    config::TableParquetOptions,
    datasource::{
        physical_plan::{
            FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
            parquet::{CachedParquetFileReaderFactory, DefaultParquetFileReaderFactory},
        },
        source::DataSourceExec,
    },
    error::Result,
    logical_expr::{
        BinaryExpr, Expr, Operator,
        utils::{conjunction, split_conjunction},
    },
    physical_expr::PhysicalExpr,
    physical_plan::ExecutionPlan,
};
use object_store::ObjectStore;

use super::{
    file_groups::{Order, StreamLimits, Streams, ordering, table_schema},
    prune::prune,
    snapshot::File,
    table::LakeTable,
};

/// The most sorted streams of a scan for one device. All of them are open at once, and each holds a
/// decompressor of 160 KB per column. Beyond that, sorting the few rows of one device costs less.
const MAX_DEVICE_STREAMS: usize = 8;

/// A scan of some files of a table.
pub(crate) struct FileScan<'a> {
    pub table: &'a LakeTable,
    pub files: Vec<File>,
    pub projection: Option<&'a Vec<usize>>,
    pub filters: &'a [Expr],
    pub limit: Option<usize>,
    pub order: Order,
}

impl<'a> FileScan<'a> {
    /// A scan of all rows and columns, with one sorted stream per file.
    pub const fn merging(table: &'a LakeTable, files: Vec<File>) -> Self {
        Self { table, files, projection: None, filters: &[], limit: None, order: Order::PerFile }
    }

    /// The physical plan; none if no file can contain a matching row.
    pub fn plan(self, session: &dyn Session) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        // The Parquet reader looks the store up in the session's runtime.
        let url = self.table.log_store.object_store_url();
        let store = self.table.log_store.object_store(None);
        session.runtime_env().register_object_store(url.as_ref(), Arc::clone(&store));
        let kind = self.table.kind;
        let schema = table_schema(kind);
        let predicate = predicate(session, self.filters, schema.table_schema())?;
        let files = prune(kind, self.files, predicate.as_ref(), schema.table_schema())?;
        if files.is_empty() {
            return Ok(None);
        }
        let threads = session.config().target_partitions();
        let limits = match one_device(self.filters) {
            // There is little to read of one device, so one thread is enough.
            Some(_) => StreamLimits { sorted: MAX_DEVICE_STREAMS, threads: 1 },
            None => StreamLimits { sorted: threads, threads },
        };
        // Pruned before they are grouped: order is cheap for few files.
        let streams = Streams::new(kind, files, &schema, self.order, limits)?;
        let groups = match streams.sorted {
            // Already cut for the threads, without mixing up the order.
            true => streams.groups,
            false => split(streams.groups, threads),
        };
        let mut source = ParquetSource::new(schema)
            .with_table_parquet_options(parquet_options(session, self.filters))
            .with_parquet_file_reader_factory(reader(session, store, self.order));
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }
        let mut config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(self.projection.cloned())?
            .with_limit(self.limit);
        if streams.sorted {
            config = config.with_output_ordering(vec![ordering(kind)?]);
        }
        Ok(Some(DataSourceExec::from_data_source(config.build())))
    }
}

/// Filters are evaluated inside the reader only if they select devices. The rows of a device are
/// adjacent, so the reader skips the others in large pieces. Other filters match rows here and there,
/// where skipping costs more than reading.
fn parquet_options(session: &dyn Session, filters: &[Expr]) -> TableParquetOptions {
    let mut options = TableParquetOptions {
        global: session.config_options().execution.parquet.clone(),
        ..TableParquetOptions::default()
    };
    let selective = selects_devices(filters);
    options.global.pushdown_filters = selective;
    options.global.reorder_filters = selective;
    options
}

/// Queries cache the metadata of files. A merge does not: its inputs are replaced right after, and
/// would only evict the metadata of files that stay.
fn reader(
    session: &dyn Session,
    store: Arc<dyn ObjectStore>,
    order: Order,
) -> Arc<dyn ParquetFileReaderFactory> {
    match order {
        Order::PerFile => Arc::new(DefaultParquetFileReaderFactory::new(store)),
        Order::IfCheap | Order::None => {
            let metadata = session.runtime_env().cache_manager.get_file_metadata_cache();
            Arc::new(CachedParquetFileReaderFactory::new(store, metadata))
        }
    }
}

fn selects_devices(filters: &[Expr]) -> bool {
    filters
        .iter()
        .flat_map(|filter| split_conjunction(filter))
        .any(|part| part.column_refs().iter().any(|column| column.name == "device_id"))
}

fn split(groups: Vec<FileGroup>, threads: usize) -> Vec<FileGroup> {
    groups.into_iter().flat_map(|group| group.split_files(threads)).collect()
}

/// The device id that the filters compare `device_id` with, if they require equality.
pub(crate) fn one_device(filters: &[Expr]) -> Option<&str> {
    filters.iter().flat_map(|filter| split_conjunction(filter)).find_map(|part| {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else {
            return None;
        };
        match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(id)), _))
            | (Expr::Literal(ScalarValue::Utf8(Some(id)), _), Expr::Column(column))
                if column.name == "device_id" =>
            {
                Some(id.as_str())
            }
            _ => None,
        }
    })
}

/// The conjunction of the filters. Volatile ones are left out: pruning evaluates them another time.
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

#[cfg(test)]
mod tests;
