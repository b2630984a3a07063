//! A scan over a snapshot's files: pruned, with the predicate pushed down, and in order where that
//! costs nothing.

use std::sync::Arc;

use acuvim_schemas::tables::{DATE, Table};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::Session,
    common::{DFSchema, ScalarValue},
    config::TableParquetOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
            parquet::CachedParquetFileReaderFactory,
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::Result,
    logical_expr::{
        BinaryExpr, Expr, Operator,
        utils::{conjunction, split_conjunction},
    },
    physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, expressions},
    physical_plan::ExecutionPlan,
};

use crate::{
    prune::{prune, statistics},
    snapshot::File,
    table::LakeTable,
};

/// Streams that one scan merges at most to keep the files' order.
const MOST_STREAMS: usize = 64;

/// What a scan reads.
pub(crate) struct FileScan<'a> {
    pub table: &'a LakeTable,
    pub files: Vec<File>,
    pub projection: Option<&'a Vec<usize>>,
    pub filters: &'a [Expr],
    pub limit: Option<usize>,
    pub order: Order,
}

/// What a scan does for the order of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One stream per file, each sorted: what a merge needs.
    PerFile,
    /// Sorted streams of files that follow each other, if they are no more than the query has
    /// threads, or if it asks for one device: then there is little to read.
    IfCheap,
    /// None: the files are cut up among the query's threads.
    None,
}

impl FileScan<'_> {
    /// The plan; none if no file can have a row that passes the filters.
    pub fn plan(self, session: &dyn Session) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let url = self.table.log_store.object_store_url();
        let store = self.table.log_store.object_store(None);
        session.runtime_env().register_object_store(url.as_ref(), Arc::clone(&store));
        let table = self.table.table;
        let schema = table_schema(table);
        let predicate = predicate(session, self.filters, schema.table_schema())?;
        let files = prune(table, self.files, predicate.as_ref(), schema.table_schema())?;
        if files.is_empty() {
            return Ok(None);
        }
        let threads = session.config().target_partitions();
        // Of one device there is little to read: one thread does.
        let (few, cuts) = match one_device(self.filters) {
            Some(_) => (MOST_STREAMS, 1),
            None => (threads, threads),
        };
        let (groups, sorted) = groups(table, files, &schema, self.order, (few, cuts))?;
        let groups = match sorted {
            true => groups,
            false => split(groups, threads),
        };
        let options = TableParquetOptions {
            global: session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let metadata = session.runtime_env().cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(store, metadata);
        let mut source = ParquetSource::new(schema)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }
        let mut config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(self.projection.cloned())?
            .with_limit(self.limit);
        if sorted {
            config = config.with_output_ordering(vec![ordering(table)?]);
        }
        Ok(Some(DataSourceExec::from_data_source(config.build())))
    }
}

/// The files by the streams that read them, and whether each stream is sorted.
fn groups(
    table: Table,
    files: Vec<File>,
    schema: &TableSchema,
    order: Order,
    (few, threads): (usize, usize),
) -> Result<(Vec<FileGroup>, bool)> {
    let known = files.iter().all(|f| f.bounds.by.is_some() && f.bounds.time.is_some());
    let files = files.into_iter().map(|f| partitioned(table, f, schema)).collect::<Vec<_>>();
    match order {
        Order::PerFile => Ok((files.into_iter().map(|f| FileGroup::new(vec![f])).collect(), true)),
        Order::IfCheap if known && files.len() <= MOST_STREAMS => {
            let all = [FileGroup::new(files)];
            let chains = FileScanConfig::split_groups_by_statistics(
                schema.table_schema(),
                &all,
                &ordering(table)?,
            )?;
            let sorted = chains.len() <= few;
            Ok((if sorted { cut(chains, threads) } else { all.into() }, sorted))
        }
        Order::IfCheap | Order::None => Ok((vec![FileGroup::new(files)], false)),
    }
}

/// Cuts chains of files in two, the longest first, until every thread has one: the parts of a chain
/// are as sorted as it was.
fn cut(mut chains: Vec<FileGroup>, threads: usize) -> Vec<FileGroup> {
    while chains.len() < threads {
        let size = |chain: &FileGroup| chain.iter().map(|f| f.object_meta.size).sum::<u64>();
        let longest = chains.iter().enumerate().filter(|(_, chain)| chain.len() > 1);
        let Some((at, _)) = longest.max_by_key(|(_, chain)| size(chain)) else { break };
        let chain = chains.swap_remove(at);
        let (half, mut before) = (size(&chain) / 2, 0);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for file in chain.into_inner() {
            let into = if first.is_empty() || before < half { &mut first } else { &mut second };
            before += file.object_meta.size;
            into.push(file);
        }
        if second.is_empty() {
            second.extend(first.pop());
        }
        chains.extend([FileGroup::new(first), FileGroup::new(second)]);
    }
    chains
}

fn split(groups: Vec<FileGroup>, target: usize) -> Vec<FileGroup> {
    groups.into_iter().flat_map(|group| group.split_files(target)).collect()
}

/// The device that filters ask for, if they ask for one.
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

fn partitioned(table: Table, file: File, schema: &TableSchema) -> PartitionedFile {
    let statistics = statistics(table, &file, schema.file_schema());
    PartitionedFile::new_from_meta(file.meta)
        .with_partition_values(vec![ScalarValue::Date32(Some(file.date))])
        .with_statistics(Arc::new(statistics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_cut_for_every_thread_and_stay_in_order() {
        let file = |n: u64| PartitionedFile::new(n.to_string(), 10 * n);
        let chain = |files: std::ops::Range<u64>| FileGroup::new(files.map(file).collect());
        let names = |chains: Vec<FileGroup>| -> Vec<Vec<String>> {
            let name = |f: &PartitionedFile| f.object_meta.location.to_string();
            chains.iter().map(|chain| chain.iter().map(name).collect()).collect()
        };
        assert_eq!(names(cut(vec![chain(1..4)], 2)), [vec!["1", "2"], vec!["3"]]);
        assert_eq!(names(cut(vec![chain(1..3)], 4)), [["1"], ["2"]]);
        assert_eq!(names(cut(vec![chain(1..3), chain(5..6)], 2)).len(), 2);
        let many = names(cut(vec![chain(1..9)], 3));
        assert_eq!(many.len(), 3);
        assert!(many.iter().all(|chain| chain.is_sorted()));
    }
}
