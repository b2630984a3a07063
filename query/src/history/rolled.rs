//! Buckets of a quarter of an hour and more come from the rollup, as far as that says all there is: up
//! to the first reading that is in none yet. From there on readings are read, so that an answer is as
//! fresh, and as true to late readings, as without it.

use std::{any::Any, sync::Arc};

use acuvim_lakehouse::{QUARTER, UnionTable, timestamp};
use acuvim_schemas::{
    Micros,
    reading::Reading,
    rollup::{Said, said_of},
    tables::Table,
};
use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::{Float64Type, Int32Type, TimestampMicrosecondType},
};
use datafusion::{
    error::Result as EngineResult,
    functions_aggregate::expr_fn::{max, min},
    prelude::{SessionContext, col, lit},
};
use futures::TryStreamExt as _;

use super::{
    ask::Order,
    fold::{Aggregate, Fold, Rolled},
    page::Answer,
    read::{Buckets, Floats, site_rows, times},
};

/// What a part of a history is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Readings,
    Rollup,
}

/// A part of a history: from a time up to another.
type Part = ((Micros, Micros), Source);

impl Buckets {
    /// What is read for a time, in order.
    pub async fn parts(
        &self,
        context: &SessionContext,
        from: Micros,
        to: Micros,
    ) -> EngineResult<Vec<Part>> {
        let whole = vec![((from, to), Source::Readings)];
        let fits = self.buckets.is_made_of(QUARTER, from, to) && self.is_rolled_up();
        let Some(fresh) = self.not_rolled_up.as_ref().filter(|_| fits) else { return Ok(whole) };
        let Some((device_id, there)) = self.site.0.first() else { return Ok(whole) };
        let (from_there, to_there) = (from.max(there.start), to.min(there.end));
        // A part of a quarter is not in the rollup.
        let Some(begin) = from_there.checked_add(QUARTER - 1).map(floor) else { return Ok(whole) };
        if begin >= floor(to_there) {
            return Ok(whole);
        }
        let telemetry = context.table_provider(Table::Telemetry.name()).await?;
        let telemetry: &dyn Any = telemetry.as_ref();
        let Some(telemetry) = telemetry.downcast_ref::<UnionTable>() else { return Ok(whole) };
        let fresh = context
            .read_table(Arc::new(fresh.among(telemetry)))?
            .filter(col("device_id").eq(lit(device_id.as_str())).and(fresh.which.clone()))?
            .filter(col("ts").lt(timestamp(to)))?
            .aggregate(Vec::new(), vec![min(col("ts"))])?
            .collect()
            .await?;
        let end = first_time(&fresh).map_or(to_there, |ts| ts.min(to_there));
        let mut end = floor(end);
        if self.aggregates.contains(&Aggregate::Delta) {
            // What the last quarter ends with may be contradicted by what is in none yet.
            end = last_quarter(context, device_id, begin..end).await?.unwrap_or(begin);
        }
        if begin >= end {
            return Ok(whole);
        }
        let parts = [
            ((from, begin), Source::Readings),
            ((begin, end), Source::Rollup),
            ((end, to), Source::Readings),
        ];
        Ok(parts.into_iter().filter(|((from, to), _)| from < to).collect())
    }

    /// Whether the rollup has all that is asked for.
    fn is_rolled_up(&self) -> bool {
        let has = |(reading, aggregate): (&Reading, &Aggregate)| {
            let said = said_of(reading);
            match aggregate {
                Aggregate::Count | Aggregate::Delta => true,
                Aggregate::Min => said.contains(&Said::Min),
                Aggregate::Max => said.contains(&Said::Max),
                Aggregate::Avg => said.contains(&Said::Avg),
                Aggregate::Sum | Aggregate::First | Aggregate::Last => false,
            }
        };
        self.asked.fields.iter().all(|r| self.aggregates.iter().all(|a| has((r, a))))
    }

    /// Folds the rollup of a time; true once the page is full.
    pub async fn fold_rollup(
        &self,
        context: &SessionContext,
        range: (Micros, Micros),
        fold: &mut Fold,
        page: &mut Answer<'_>,
    ) -> EngineResult<bool> {
        let fields = &self.asked.fields;
        let mut names = vec!["last_ts".to_owned()];
        for reading in fields {
            names.extend(
                said_of(reading).iter().map(|s| format!("{}_{}", reading.name, s.suffix())),
            );
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rows =
            site_rows(context, Table::Rollup15m, &self.site, range, &names, Order::Ascending);
        let mut rows = rows.await?.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            let columns = Quarters::of(&batch, fields);
            let ends = batch.column(1).as_primitive::<TimestampMicrosecondType>();
            for (row, start) in times(&batch).iter().enumerate() {
                let last_ts = if ends.is_valid(row) { ends.value(row) } else { *start };
                let cells = columns.iter().map(|column| column.get(row));
                fold.push_rolled(*start, last_ts, cells);
                while let Some(done) = fold.pop() {
                    page.take(done);
                }
            }
            if page.is_full() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The last quarter of an hour in a time that the rollup has of a device.
pub(super) async fn last_quarter(
    context: &SessionContext,
    device_id: &str,
    times: std::ops::Range<Micros>,
) -> EngineResult<Option<Micros>> {
    let within = col("ts").gt_eq(timestamp(times.start)).and(col("ts").lt(timestamp(times.end)));
    let last = context
        .table(Table::Rollup15m.name())
        .await?
        .filter(col("device_id").eq(lit(device_id)).and(within))?
        .aggregate(Vec::new(), vec![max(col("ts"))])?
        .collect()
        .await?;
    Ok(first_time(&last))
}

/// The columns about one reading.
#[derive(Default)]
struct Quarters<'a> {
    count: Option<&'a arrow::array::Int32Array>,
    avg: Option<&'a arrow::array::Float64Array>,
    min: Option<Floats<'a>>,
    max: Option<Floats<'a>>,
    delta: Option<Floats<'a>>,
}

impl<'a> Quarters<'a> {
    /// Behind `ts` and `last_ts`, in the order of the fields and of what is said of each.
    fn of(batch: &'a RecordBatch, fields: &[&'static Reading]) -> Vec<Self> {
        let mut columns = batch.columns().iter().skip(2);
        let of = |reading: &&'static Reading| {
            let mut quarters = Self::default();
            for said in said_of(reading) {
                let Some(column) = columns.next() else { break };
                match said {
                    Said::Count => quarters.count = column.as_primitive_opt::<Int32Type>(),
                    Said::Avg => quarters.avg = column.as_primitive_opt::<Float64Type>(),
                    Said::Min => quarters.min = Some(Floats::of(column)),
                    Said::Max => quarters.max = Some(Floats::of(column)),
                    Said::Delta => quarters.delta = Some(Floats::of(column)),
                    Said::Last | Said::Suspect => {}
                }
            }
            quarters
        };
        fields.iter().map(of).collect()
    }

    fn get(&self, row: usize) -> Rolled {
        let float = |column: &Option<Floats<'_>>| column.as_ref().and_then(|c| c.get(row));
        let count = self.count.filter(|c| c.is_valid(row)).map_or(0, |c| c.value(row));
        let avg = self.avg.filter(|c| c.is_valid(row)).map_or(0.0, |c| c.value(row));
        Rolled {
            count: u32::try_from(count).unwrap_or(0),
            min: float(&self.min).unwrap_or(0.0),
            max: float(&self.max).unwrap_or(0.0),
            avg,
            delta: float(&self.delta),
        }
    }
}

const fn floor(ts: Micros) -> Micros {
    ts - ts.rem_euclid(QUARTER)
}

fn first_time(rows: &[RecordBatch]) -> Option<Micros> {
    let times = rows.first()?.column(0).as_primitive_opt::<TimestampMicrosecondType>()?;
    (!times.is_empty() && times.is_valid(0)).then(|| times.value(0))
}
