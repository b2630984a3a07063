//! The sources of a history. Buckets of a quarter of an hour and more come from the rollup up to the first
//! reading that is in no rollup yet, and from readings after that. So an answer counts the same readings as
//! without the rollup, new and late ones included.

use std::{any::Any, ops::Range, sync::Arc};

use acuvim_lakehouse::{QUARTER, UnionTable, timestamp};
use acuvim_tables::{
    Table,
    rollup::{Stat, stats_of},
};
use acuvim_wire::{Micros, reading::Reading};
use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use datafusion::{
    error::Result as EngineResult,
    functions_aggregate::expr_fn::{max, min},
    prelude::{SessionContext, col, lit},
};

use super::{aggregate::Aggregate, bucket_query::BucketQuery, site::SiteLogger};

/// The source of a part of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Readings,
    Rollup,
}

/// A part of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub range: Range<Micros>,
    pub source: Source,
}

impl Part {
    fn readings(range: Range<Micros>) -> Self {
        Self { range, source: Source::Readings }
    }

    fn rollup(range: Range<Micros>) -> Self {
        Self { range, source: Source::Rollup }
    }
}

impl BucketQuery {
    /// The parts of a range of times, in order.
    pub(super) async fn parts(
        &self,
        context: &SessionContext,
        range: Range<Micros>,
    ) -> EngineResult<Vec<Part>> {
        match self.rolled_up(context, &range).await? {
            None => Ok(vec![Part::readings(range)]),
            Some(rolled_up) => {
                let parts = [
                    Part::readings(range.start..rolled_up.start),
                    Part::rollup(rolled_up.clone()),
                    Part::readings(rolled_up.end..range.end),
                ];
                Ok(parts.into_iter().filter(|part| !part.range.is_empty()).collect())
            }
        }
    }

    /// The part of a range that the rollup has complete; none if that is nothing.
    async fn rolled_up(
        &self,
        context: &SessionContext,
        range: &Range<Micros>,
    ) -> EngineResult<Option<Range<Micros>>> {
        let fits = self.buckets.is_made_of(QUARTER, range.start, range.end) && self.is_rolled_up();
        let Some(not_rolled_up) = self.not_rolled_up.as_ref().filter(|_| fits) else {
            return Ok(None);
        };
        let Some(SiteLogger { device_id, there }) = self.site.newest() else { return Ok(None) };
        let (from, to) = (range.start.max(there.start), range.end.min(there.end));
        // The rollup has no part of a quarter.
        let Some(begin) = from.checked_add(QUARTER - 1).map(floor) else { return Ok(None) };
        if begin >= floor(to) {
            return Ok(None);
        }
        let telemetry = context.table_provider(Table::Telemetry.name()).await?;
        let telemetry: &dyn Any = telemetry.as_ref();
        let Some(telemetry) = telemetry.downcast_ref::<UnionTable>() else { return Ok(None) };
        let first = context
            .read_table(Arc::new(not_rolled_up.among(telemetry)))?
            .filter(col("device_id").eq(lit(device_id.as_str())).and(not_rolled_up.which.clone()))?
            .filter(col("ts").lt(timestamp(range.end)))?
            .aggregate(Vec::new(), vec![min(col("ts"))])?
            .collect()
            .await?;
        let mut end = floor(first_time(&first).map_or(to, |ts| ts.min(to)));
        if self.counts() {
            // A reading that is in no rollup yet may contradict the last one of the last quarter, and
            // with it what that quarter has counted.
            end = last_quarter(context, device_id, begin..end).await?.unwrap_or(begin);
        }
        Ok((begin < end).then_some(begin..end))
    }

    /// Whether the rollup has every aggregate that is asked for.
    fn is_rolled_up(&self) -> bool {
        let has = |(reading, aggregate): (&Reading, &Aggregate)| {
            let said = stats_of(reading);
            match aggregate {
                Aggregate::Count | Aggregate::Delta => true,
                Aggregate::Min => said.contains(&Stat::Min),
                Aggregate::Max => said.contains(&Stat::Max),
                Aggregate::Avg => said.contains(&Stat::Avg),
                Aggregate::Sum | Aggregate::First | Aggregate::Last => false,
            }
        };
        self.fields().iter().all(|r| self.aggregates.iter().all(|a| has((r, a))))
    }
}

/// The last quarter of an hour in a range of times that the rollup has a row of for a device.
pub(super) async fn last_quarter(
    context: &SessionContext,
    device_id: &str,
    range: Range<Micros>,
) -> EngineResult<Option<Micros>> {
    let within = col("ts").gt_eq(timestamp(range.start)).and(col("ts").lt(timestamp(range.end)));
    let last = context
        .table(Table::Rollup15m.name())
        .await?
        .filter(col("device_id").eq(lit(device_id)).and(within))?
        .aggregate(Vec::new(), vec![max(col("ts"))])?
        .collect()
        .await?;
    Ok(first_time(&last))
}

const fn floor(ts: Micros) -> Micros {
    ts - ts.rem_euclid(QUARTER)
}

fn first_time(rows: &[RecordBatch]) -> Option<Micros> {
    let times = rows.first()?.column(0).as_primitive_opt::<TimestampMicrosecondType>()?;
    (!times.is_empty() && times.is_valid(0)).then(|| times.value(0))
}
