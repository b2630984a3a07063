//! Buckets out of the rollup of quarters of an hour.

use std::ops::Range;

use acuvim_tables::{
    Table,
    rollup::{Stat, stats_of},
};
use acuvim_wire::{Micros, reading::Reading};
use arrow::{
    array::{Array as _, AsArray as _, Float64Array, Int32Array, RecordBatch},
    datatypes::{Float64Type, Int32Type, TimestampMicrosecondType},
};
use datafusion::{error::Result as EngineResult, prelude::SessionContext};
use futures::TryStreamExt as _;

use super::{
    bucket_query::BucketQuery,
    fold::{Fold, Rolled},
    page::BucketPage,
    request::Order,
    site::{Floats, site_rows, times},
};

impl BucketQuery {
    /// Folds the rollup's rows of some time into the page; true once the page is full.
    pub(super) async fn fold_rollup(
        &self,
        context: &SessionContext,
        range: Range<Micros>,
        fold: &mut Fold,
        page: &mut BucketPage<'_>,
    ) -> EngineResult<bool> {
        let fields = self.fields();
        let mut names = vec!["last_ts".to_owned()];
        for reading in fields {
            names.extend(
                stats_of(reading).iter().map(|s| format!("{}_{}", reading.name, s.suffix())),
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

/// The columns about one reading.
#[derive(Default)]
struct Quarters<'a> {
    count: Option<&'a Int32Array>,
    avg: Option<&'a Float64Array>,
    min: Option<Floats<'a>>,
    max: Option<Floats<'a>>,
    delta: Option<Floats<'a>>,
}

impl<'a> Quarters<'a> {
    /// The columns after `ts` and `last_ts`, in the order of the fields and of their aggregates.
    fn of(batch: &'a RecordBatch, fields: &[&'static Reading]) -> Vec<Self> {
        let mut columns = batch.columns().iter().skip(2);
        let of = |reading: &&'static Reading| {
            let mut quarters = Self::default();
            for said in stats_of(reading) {
                let Some(column) = columns.next() else { break };
                match said {
                    Stat::Count => quarters.count = column.as_primitive_opt::<Int32Type>(),
                    Stat::Avg => quarters.avg = column.as_primitive_opt::<Float64Type>(),
                    Stat::Min => quarters.min = Some(Floats::of(column)),
                    Stat::Max => quarters.max = Some(Floats::of(column)),
                    Stat::Delta => quarters.delta = Some(Floats::of(column)),
                    Stat::Last | Stat::Suspect => {}
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
