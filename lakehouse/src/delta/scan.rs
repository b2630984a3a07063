//! A scan over a snapshot's files: pruned, with the predicate pushed down, and in order where that
//! costs nothing.

use std::sync::Arc;

use acuvim_schemas::tables::{DATE, Table};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::Session,
    common::{DFSchema, ScalarValue, Statistics},
    config::TableParquetOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetFileReaderFactory,
            ParquetSource,
            parquet::{CachedParquetFileReaderFactory, DefaultParquetFileReaderFactory},
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

/// Files that are looked at for an order that they have together.
const MOST_CHAINED: usize = 64;

/// Streams that a scan of one device merges at most to keep the files' order: all are open at once,
/// and each holds a decompressor of 160 KB for every column. One device's rows are few enough to be
/// sorted where its files are many.
const MOST_STREAMS: usize = 8;

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
        let mut options = TableParquetOptions {
            global: session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        // What devices are asked for stands together; other filters let rows through here and there,
        // and to skip between them costs more than to read them.
        let selective = selects_devices(self.filters);
        options.global.pushdown_filters = selective;
        options.global.reorder_filters = selective;
        let reader: Arc<dyn ParquetFileReaderFactory> = match self.order {
            // What a merge reads is read once and then replaced: kept, its metadata would only push
            // out that of files which stay.
            Order::PerFile => Arc::new(DefaultParquetFileReaderFactory::new(store)),
            Order::IfCheap | Order::None => {
                let metadata = session.runtime_env().cache_manager.get_file_metadata_cache();
                Arc::new(CachedParquetFileReaderFactory::new(store, metadata))
            }
        };
        let mut source = ParquetSource::new(schema)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(reader);
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
        Order::IfCheap if known && files.len() <= MOST_CHAINED => {
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

/// Whether filters speak of devices: what they let through stands together in the files.
fn selects_devices(filters: &[Expr]) -> bool {
    filters
        .iter()
        .flat_map(|filter| split_conjunction(filter))
        .any(|part| part.column_refs().iter().any(|column| column.name == "device_id"))
}

/// Cuts chains of files in two, the longest first, until every thread has one: the parts of a chain
/// are as sorted as it was.
fn cut(mut chains: Vec<FileGroup>, threads: usize) -> Vec<FileGroup> {
    while chains.len() < threads {
        let longest = chains.iter().enumerate().max_by_key(|(_, chain)| bytes(chain));
        let Some((at, _)) = longest.filter(|(_, chain)| bytes(chain) > SMALL) else { break };
        let (first, second) = halves(chains.swap_remove(at));
        chains.extend([first, second]);
    }
    chains
}

/// A chain that is smaller than this is not worth another thread, in bytes.
const SMALL: u64 = 1 << 20;

fn size(file: &PartitionedFile) -> u64 {
    match &file.range {
        Some(range) => u64::try_from(range.end - range.start).unwrap_or(0),
        None => file.object_meta.size,
    }
}

fn bytes(chain: &FileGroup) -> u64 {
    chain.iter().map(size).sum()
}

/// Two parts of about the same size; a file that lies in the middle is read by both, each its own row
/// groups.
fn halves(chain: FileGroup) -> (FileGroup, FileGroup) {
    let half = bytes(&chain) / 2;
    let (mut first, mut second, mut before) = (Vec::new(), Vec::new(), 0);
    for file in chain.into_inner() {
        let (from, length) = (before, size(&file));
        before += length;
        if before <= half {
            first.push(file);
        } else if from >= half {
            second.push(file);
        } else {
            let whole = i64::try_from(file.object_meta.size).unwrap_or(i64::MAX);
            let (start, end) = file.range.as_ref().map_or((0, whole), |r| (r.start, r.end));
            let middle = start + i64::try_from(half - from).unwrap_or(0);
            first.push(part(&file, start, middle));
            second.push(part(&file, middle, end));
        }
    }
    (FileGroup::new(first), FileGroup::new(second))
}

fn part(file: &PartitionedFile, start: i64, end: i64) -> PartitionedFile {
    let mut part = file.clone().with_range(start, end);
    // Those of the whole file are bounds for its parts, and no more.
    let bounds = |whole: &Arc<Statistics>| Arc::new(Statistics::clone(whole).to_inexact());
    part.statistics = part.statistics.as_ref().map(bounds);
    part
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
        let file = |n: u64| PartitionedFile::new(n.to_string(), (10 * n) << 20);
        let chain = |files: std::ops::Range<u64>| FileGroup::new(files.map(file).collect());
        // A file of n has n times ten MiB; a part of one is shown as from..to in MiB.
        let names = |chains: Vec<FileGroup>| -> Vec<Vec<String>> {
            let name = |f: &PartitionedFile| match &f.range {
                Some(range) => {
                    format!("{}:{}..{}", f.object_meta.location, range.start >> 20, range.end >> 20)
                }
                None => f.object_meta.location.to_string(),
            };
            chains.iter().map(|chain| chain.iter().map(name).collect()).collect()
        };
        let halves = names(cut(vec![chain(1..4)], 2));
        assert_eq!(halves, [vec!["1", "2"], vec!["3"]]);
        let halves = names(cut(vec![chain(3..5)], 2));
        assert_eq!(halves, [vec!["3", "4:0..5"], vec!["4:5..40"]]);
        let mut quarters = names(cut(vec![chain(2..3)], 4));
        quarters.sort_by_key(|part| part[0].len());
        quarters[2..].sort();
        quarters[..2].sort();
        assert_eq!(quarters, [["2:0..5"], ["2:5..10"], ["2:10..15"], ["2:15..20"]]);
        assert_eq!(names(cut(vec![chain(1..3), chain(5..6)], 2)).len(), 2);
        let small = FileGroup::new(vec![PartitionedFile::new("small", 1000)]);
        assert_eq!(names(cut(vec![small], 2)), [["small"]]);
    }
}
