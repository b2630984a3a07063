//! File pruning: which files of a snapshot can contain rows that match a predicate.

use std::{collections::HashSet, sync::Arc};

use acuvim_tables::{DATE, Table};
use acuvim_wire::time::DAY;
use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Int64Array, StringArray, TimestampMicrosecondArray,
        UInt64Array,
    },
    datatypes::SchemaRef,
};
use datafusion::{
    common::{
        Column, ColumnStatistics, ScalarValue, Statistics, pruning::PruningStatistics,
        stats::Precision,
    },
    error::Result,
    physical_expr::PhysicalExpr,
    physical_optimizer::pruning::PruningPredicateBuilder,
};

use super::snapshot::{File, MinMax};

/// The files that can contain matching rows.
pub(crate) fn prune(
    table: Table,
    files: Vec<File>,
    predicate: Option<&Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
) -> Result<Vec<File>> {
    let Some(predicate) = predicate else { return Ok(files) };
    let pruning = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .try_build(Arc::clone(predicate))?;
    let keep = pruning.prune(&Files { table, files: &files })?;
    Ok(files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
}

/// The statistics of a file in the engine's form. The engine orders files by them, and skips files
/// once a running query has narrowed its filters. Marked inexact, since Delta's bounds may be wider
/// than the data.
pub(crate) fn statistics(table: Table, file: &File, schema: &SchemaRef) -> Statistics {
    let mut all = Statistics::new_unknown(schema);
    all.num_rows = file.rows.map_or(Precision::Absent, Precision::Exact);
    let [by, time] = table.sort_columns();
    let text = |text: &String| ScalarValue::Utf8(Some(text.clone()));
    let moment = |ts: i64| ScalarValue::TimestampMicrosecond(Some(ts), Some("UTC".into()));
    let bounds = &file.bounds;
    let known = [
        (by, bounds.by.as_ref().map(|names| names.each_ref().map(text))),
        (time, bounds.time.map(|times| times.map(moment))),
    ];
    for (name, bounds) in known {
        let (Some(bounds), Ok(at)) = (bounds, schema.index_of(name)) else { continue };
        if let Some(column) = all.column_statistics.get_mut(at) {
            // The bounds of a column with nulls are unknown, so one with bounds has none.
            *column = ColumnStatistics {
                null_count: Precision::Exact(0),
                min_value: Precision::Inexact(bounds.min),
                max_value: Precision::Inexact(bounds.max),
                ..ColumnStatistics::new_unknown()
            };
        }
    }
    all
}

/// The bounds of several files, column by column: `date` is exact, the time column lies within the
/// day and its own bounds, the first sort column and `offset` within theirs.
struct Files<'a> {
    table: Table,
    files: &'a [File],
}

#[derive(Clone, Copy)]
enum Side {
    Least,
    Greatest,
}

impl Side {
    fn of<T>(self, bounds: MinMax<T>) -> T {
        match self {
            Self::Least => bounds.min,
            Self::Greatest => bounds.max,
        }
    }
}

impl Files<'_> {
    fn bound(&self, column: &Column, side: Side) -> Option<ArrayRef> {
        let [by, time] = self.table.sort_columns();
        let files = self.files.iter();
        if column.name == DATE {
            Some(Arc::new(Date32Array::from_iter_values(files.map(|f| f.date))))
        } else if column.name == time {
            // Rows are stored under their day, so files without statistics have bounds too.
            let times = files.map(|f| {
                let start = i64::from(f.date) * DAY;
                let day = MinMax { min: start, max: start + DAY - 1 };
                side.of(f.bounds.time.map_or(day, |times| MinMax {
                    min: times.min.max(day.min),
                    max: times.max.min(day.max),
                }))
            });
            let times = TimestampMicrosecondArray::from_iter_values(times);
            Some(Arc::new(times.with_timezone("UTC")))
        } else if column.name == by {
            let names = files.map(|f| f.bounds.by.as_ref().map(|names| side.of(names.each_ref())));
            Some(Arc::new(names.collect::<StringArray>()))
        } else if column.name == "offset" {
            let offsets = files.map(|f| f.bounds.offset.map(|offsets| side.of(offsets)));
            Some(Arc::new(offsets.collect::<Int64Array>()))
        } else {
            None
        }
    }
}

impl PruningStatistics for Files<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, Side::Least)
    }
    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, Side::Greatest)
    }
    fn num_containers(&self) -> usize {
        self.files.len()
    }
    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        // Neither is ever null, so `IS NULL` on them prunes every file.
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

#[cfg(test)]
mod tests;
