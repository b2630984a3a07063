//! A page of buckets, computed in one pass over rows in order of time: what a counter counts between two
//! buckets belongs to the later one, which a GROUP BY can't express.

use std::ops::Range;

use acuvim_tables::Table;
use acuvim_wire::Micros;
use datafusion::{error::Result as EngineResult, prelude::SessionContext};
use futures::TryStreamExt as _;

use super::{
    bucket_query::BucketQuery,
    fold::Fold,
    page::{BucketPage, Page},
    request::Order,
    site::{Floats, site_rows, times},
    sources::{Part, Source},
};

impl BucketQuery {
    /// Reads a page.
    pub(super) async fn read(&self, context: &SessionContext) -> EngineResult<Page> {
        let range = self.range();
        let mut meter = self.meter.clone();
        if self.counts() {
            meter.changes.extend(self.meter_changes(context, range.clone()).await?);
            // Control and the heartbeats may know of the same change.
            meter.changes.sort_unstable();
            meter.changes.dedup();
        }
        let columns = self.request.folded();
        let mut fold = Fold::new(self.buckets, columns, self.aggregates.clone(), meter);
        let mut page = BucketPage::new(self, range.start);
        for part in self.parts(context, range.clone()).await? {
            if self.fold_part(context, part, &mut fold, &mut page).await? {
                return Ok(page.finish());
            }
        }
        if self.counts() {
            self.look_ahead(context, range.end, &mut fold).await?;
        }
        fold.finish().into_iter().for_each(|row| page.take(row));
        // Buckets of the future are not filled in.
        page.end(range.end.min(self.now.max(range.start)));
        Ok(page.finish())
    }

    /// Folds a part of the history into the page; true once the page is full.
    async fn fold_part(
        &self,
        context: &SessionContext,
        part: Part,
        fold: &mut Fold,
        page: &mut BucketPage<'_>,
    ) -> EngineResult<bool> {
        match part.source {
            Source::Readings => {
                if self.counts() {
                    self.look_back(context, part.range.start, fold).await?;
                }
                self.fold_readings(context, part.range, fold, page).await
            }
            Source::Rollup => {
                self.look_ahead(context, part.range.start, fold).await?;
                self.fold_rollup(context, part.range, fold, page).await
            }
        }
    }

    /// Folds the readings of some time into the page; true once the page is full.
    async fn fold_readings(
        &self,
        context: &SessionContext,
        range: Range<Micros>,
        fold: &mut Fold,
        page: &mut BucketPage<'_>,
    ) -> EngineResult<bool> {
        let (table, names) = (Table::Telemetry, self.names());
        let rows = site_rows(context, table, &self.site, range, &names, Order::Ascending).await?;
        let mut rows = rows.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            let columns: Vec<Floats<'_>> = batch.columns().iter().skip(1).map(Floats::of).collect();
            for (row, ts) in times(&batch).iter().enumerate() {
                fold.push(*ts, columns.iter().map(|c| c.get(row)));
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
