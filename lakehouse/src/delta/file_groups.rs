//! Distributes the files of a scan over its streams, keeping the order of rows where that is cheap.

use std::sync::Arc;

use acuvim_tables::{DATE, Table};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    common::{ScalarValue, Statistics},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfig},
        table_schema::TableSchema,
    },
    error::{DataFusionError, Result},
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions},
};

use super::{prune::statistics, snapshot::File};

/// How a scan treats the order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One sorted stream per file, as a merge needs them.
    PerFile,
    /// Sorted streams, each a chain of files that follow one another, provided that there are few: at
    /// most one per thread, or any small number if the query reads one device, which is little data.
    IfCheap,
    /// No order: the files are divided among the threads.
    None,
}

/// How many streams a scan may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamLimits {
    /// The most sorted streams that are worth merging.
    pub sorted: usize,
    /// The number of threads that there should be a stream for.
    pub threads: usize,
}

/// The files of a scan by the streams that read them.
pub(super) struct Streams {
    pub groups: Vec<FileGroup>,
    /// Whether the rows of each stream are sorted.
    pub sorted: bool,
}

/// The most files for which an order that they have together is searched.
const MAX_CHAINED_FILES: usize = 64;

/// A chain below this size in bytes is not worth a second thread.
const MIN_SPLIT_BYTES: u64 = 1 << 20;

impl Streams {
    /// Assigns files to streams.
    pub fn new(
        table: Table,
        files: Vec<File>,
        schema: &TableSchema,
        order: Order,
        limits: StreamLimits,
    ) -> Result<Self> {
        // Without the bounds of every file it is unknown which ones follow each other.
        let known = files.iter().all(|f| f.bounds.by.is_some() && f.bounds.time.is_some());
        let files: Vec<_> = files.into_iter().map(|f| partitioned(table, f, schema)).collect();
        match order {
            Order::PerFile => {
                let groups = files.into_iter().map(|f| FileGroup::new(vec![f])).collect();
                Ok(Self { groups, sorted: true })
            }
            Order::IfCheap if known && files.len() <= MAX_CHAINED_FILES => {
                let all = [FileGroup::new(files)];
                let chains = FileScanConfig::split_groups_by_statistics(
                    schema.table_schema(),
                    &all,
                    &ordering(table)?,
                )?;
                Ok(match chains.len() <= limits.sorted {
                    true => Self { groups: cut(chains, limits.threads), sorted: true },
                    false => Self { groups: all.into(), sorted: false },
                })
            }
            Order::IfCheap | Order::None => {
                Ok(Self { groups: vec![FileGroup::new(files)], sorted: false })
            }
        }
    }
}

/// The order of rows within each file.
pub(crate) fn ordering(table: Table) -> Result<LexOrdering> {
    let schema = table.schema();
    let columns = table
        .sort_columns()
        .into_iter()
        .map(|name| Ok(PhysicalSortExpr::new_default(expressions::col(name, &schema)?)))
        .collect::<Result<Vec<_>>>()?;
    LexOrdering::new(columns)
        .ok_or_else(|| DataFusionError::Internal("a table has no sort columns".to_owned()))
}

/// The columns of the files, and `date`, which is in their paths.
pub(super) fn table_schema(table: Table) -> TableSchema {
    let schema = table.schema();
    let columns = schema.fields().iter().filter(|f| f.name() != DATE).cloned();
    let file_schema = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
    TableSchema::builder(file_schema)
        .with_table_partition_cols(vec![Arc::new(Field::new(DATE, DataType::Date32, false))])
        .build()
}

fn partitioned(table: Table, file: File, schema: &TableSchema) -> PartitionedFile {
    let statistics = statistics(table, &file, schema.file_schema());
    PartitionedFile::new_from_meta(file.meta)
        .with_partition_values(vec![ScalarValue::Date32(Some(file.date))])
        .with_statistics(Arc::new(statistics))
}

/// Cuts chains of files in two, the largest first, until there is one per thread. Both parts of a
/// sorted chain are sorted.
fn cut(mut chains: Vec<FileGroup>, threads: usize) -> Vec<FileGroup> {
    while chains.len() < threads {
        // The largest decides how long the query takes.
        let largest = chains.iter().enumerate().max_by_key(|(_, chain)| bytes(chain));
        let large = largest.filter(|(_, chain)| bytes(chain) > MIN_SPLIT_BYTES);
        let Some((at, _)) = large else { break };
        let (first, second) = halves(chains.swap_remove(at));
        chains.extend([first, second]);
    }
    chains
}

fn size(file: &PartitionedFile) -> u64 {
    match &file.range {
        Some(range) => u64::try_from(range.end - range.start).unwrap_or(0),
        None => file.object_meta.size,
    }
}

fn bytes(chain: &FileGroup) -> u64 {
    chain.iter().map(size).sum()
}

/// Two parts of about the same size. The file in the middle belongs to both, with a byte range each:
/// the reader takes the row groups that begin in its range.
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
    // The statistics of the whole file are only bounds for a part of it.
    let bounds = |whole: &Arc<Statistics>| Arc::new(Statistics::clone(whole).to_inexact());
    part.statistics = part.statistics.as_ref().map(bounds);
    part
}

#[cfg(test)]
mod tests {
    use datafusion::common::stats::Precision;

    use super::*;
    use crate::delta::snapshot::{Bounds, MinMax};

    fn file(name: &str, devices: Option<(&str, &str)>) -> File {
        let bounds = devices.map_or_else(Bounds::default, |(min, max)| Bounds {
            by: Some(MinMax { min: min.into(), max: max.into() }),
            time: Some(MinMax { min: 0, max: 9 }),
            ..Bounds::default()
        });
        File { bounds: Arc::new(bounds), ..File::named(name, 0) }
    }

    /// The names of the files of each stream, and whether the streams are sorted.
    fn streams(files: &[File], order: Order, sorted: usize) -> (Vec<Vec<String>>, bool) {
        let table = Table::Telemetry;
        let limits = StreamLimits { sorted, threads: 1 };
        let made = Streams::new(table, files.to_vec(), &table_schema(table), order, limits);
        let made = made.expect("streams");
        let names = |group: &FileGroup| {
            group.iter().map(|file| file.object_meta.location.to_string()).collect()
        };
        (made.groups.iter().map(names).collect(), made.sorted)
    }

    #[test]
    fn files_that_follow_each_other_are_one_sorted_stream() {
        let files = [file("2", Some(("c", "d"))), file("1", Some(("a", "b")))];
        let (groups, sorted) = streams(&files, Order::IfCheap, 1);
        assert_eq!((groups, sorted), (vec![vec!["1".to_owned(), "2".to_owned()]], true));
    }

    #[test]
    fn overlapping_files_are_sorted_streams_only_if_these_are_few() {
        let files = [file("1", Some(("a", "c"))), file("2", Some(("b", "d")))];
        assert_eq!(streams(&files, Order::IfCheap, 1), (vec![names(&["1", "2"])], false));
        let (groups, sorted) = streams(&files, Order::IfCheap, 2);
        assert_eq!((groups.len(), sorted), (2, true));
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn without_all_bounds_or_with_many_files_there_is_no_order() {
        let files = [file("1", Some(("a", "b"))), file("2", None)];
        assert_eq!(streams(&files, Order::IfCheap, 8), (vec![names(&["1", "2"])], false));
        let many: Vec<File> = (0..=MAX_CHAINED_FILES)
            .map(|n| file(&n.to_string(), Some((&format!("{n:03}"), &format!("{n:03}")))))
            .collect();
        assert!(!streams(&many, Order::IfCheap, 8).1);
        assert!(streams(&many[1..], Order::IfCheap, 8).1, "just as many as are looked at");
        assert!(!streams(&many[..2], Order::None, 8).1);
    }

    #[test]
    fn a_merge_has_a_stream_per_file_whatever_is_known() {
        let files = [file("1", None), file("2", Some(("a", "b"))), file("3", None)];
        let (groups, sorted) = streams(&files, Order::PerFile, 1);
        assert_eq!((groups.len(), sorted), (3, true));
    }

    #[test]
    fn a_part_of_a_file_has_its_bounds_as_estimates() {
        let whole = partitioned(
            Table::Telemetry,
            File { rows: Some(7), ..file("1", Some(("a", "b"))) },
            &table_schema(Table::Telemetry),
        );
        let rows = |file: &PartitionedFile| file.statistics.as_ref().map(|all| all.num_rows);
        assert_eq!(rows(&whole), Some(Precision::Exact(7)));
        assert_eq!(rows(&part(&whole, 0, 1)), Some(Precision::Inexact(7)));
    }

    #[test]
    fn chains_are_cut_for_every_thread_and_stay_in_order() {
        let file = |n: u64| PartitionedFile::new(n.to_string(), (10 * n) << 20);
        let chain = |files: std::ops::Range<u64>| FileGroup::new(files.map(file).collect());
        // File n has n times 10 MiB. A part of it is printed as n:from..to in MiB.
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
