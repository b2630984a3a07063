//! Rows around a history: the readings before it, from which counters continue; the readings after it, which
//! may contradict its last ones; and heartbeats, which show when another meter was connected.

use std::ops::Range;

use acuvim_lakehouse::Reading;
use acuvim_tables::Table;
use acuvim_wire::{Micros, payload::serial_of, time::DAY};
use arrow::array::AsArray as _;
use datafusion::{
    error::Result as EngineResult,
    prelude::{SessionContext, col},
};
use futures::TryStreamExt as _;

use super::{
    aggregate::Column,
    bucket_query::BucketQuery,
    fold::{Fold, LastReadings},
    request::Order,
    site::{Floats, site_rows, times},
    sources::last_quarter,
};

/// How far back and ahead of the history readings are looked for.
const LOOK_BACK: Micros = 7 * DAY;

/// Readings of each counter that are kept from before: enough to tell which of them are suspect.
const KEPT: usize = 8;

/// Readings that are searched for more of them once each counter has one.
const LOOKED_THROUGH: usize = 5000;

impl BucketQuery {
    /// Tells the fold where counters stood before a time.
    pub(super) async fn look_back(
        &self,
        context: &SessionContext,
        from: Micros,
        fold: &mut Fold,
    ) -> EngineResult<()> {
        let near = from.saturating_sub(LOOK_BACK)..from;
        let mut before = self.last_readings(context, near.clone()).await?;
        if before.is_none()
            && let Some(logger) = self.site.newest()
        {
            // A meter goes on counting while its logger is away, however long that is.
            let far = Micros::MIN..near.start;
            if let Some(quarter) = last_quarter(context, &logger.device_id, far).await? {
                // A day before that quarter too: some counters are sent more seldom than others.
                let far = quarter.saturating_sub(DAY)..from;
                before = self.last_readings(context, far).await?;
            }
        }
        match before {
            Some(before) => fold.begin_after(&before),
            None => fold.begin(),
        }
        Ok(())
    }

    async fn last_readings(
        &self,
        context: &SessionContext,
        range: Range<Micros>,
    ) -> EngineResult<Option<LastReadings>> {
        let (table, names) = (Table::Telemetry, self.names());
        let rows = site_rows(context, table, &self.site, range, &names, Order::Descending).await?;
        let mut rows = rows.execute_stream().await?;
        // Some readings are sent more seldom than others: each counter has its own last ones.
        let columns = self.request.folded();
        let mut found: Vec<Vec<Reading>> = vec![Vec::new(); names.len()];
        let (mut newest, mut looked) = (None, 0);
        while let Some(batch) = rows.try_next().await? {
            let values: Vec<Floats<'_>> = batch.columns().iter().skip(1).map(Floats::of).collect();
            for (row, ts) in times(&batch).iter().enumerate() {
                newest = newest.or(Some(*ts));
                for (found, values) in found.iter_mut().zip(&values) {
                    keep(found, values.get(row).map(|value| Reading { ts: *ts, value }));
                }
            }
            looked += batch.num_rows();
            // A counter that stands still fills its places slowly: one reading of it is enough then.
            let wanted = if looked > LOOKED_THROUGH { 1 } else { KEPT };
            let lacks =
                |(found, of): (&Vec<_>, &Column)| of.counter.is_some() && found.len() < wanted;
            if !found.iter().zip(&columns).any(lacks) {
                break;
            }
        }
        Ok(newest.map(|newest| LastReadings { newest, of_columns: found }))
    }

    /// Shows the fold the readings after a time, until none can take back what was counted before it.
    pub(super) async fn look_ahead(
        &self,
        context: &SessionContext,
        from: Micros,
        fold: &mut Fold,
    ) -> EngineResult<()> {
        if fold.is_settled() {
            return Ok(());
        }
        let range = from..from.saturating_add(LOOK_BACK);
        let (table, names) = (Table::Telemetry, self.names());
        let rows = site_rows(context, table, &self.site, range, &names, Order::Ascending).await?;
        let mut rows = rows.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            let columns: Vec<Floats<'_>> = batch.columns().iter().skip(1).map(Floats::of).collect();
            for (row, ts) in times(&batch).iter().enumerate() {
                fold.look_at(*ts, columns.iter().map(|c| c.get(row)));
                if fold.is_settled() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// When another meter was connected, by the serial numbers in heartbeats.
    pub(super) async fn meter_changes(
        &self,
        context: &SessionContext,
        range: Range<Micros>,
    ) -> EngineResult<Vec<Micros>> {
        let range = range.start.saturating_sub(LOOK_BACK)..range.end;
        let (table, order) = (Table::Heartbeats, Order::Ascending);
        let rows = site_rows(context, table, &self.site, range, &["meter_serial"], order).await?;
        let mut rows = rows.filter(col("meter_serial").is_not_null())?.execute_stream().await?;
        let (mut changes, mut serial) = (Vec::new(), None::<String>);
        while let Some(batch) = rows.try_next().await? {
            let serials = batch.column(1).as_string::<i32>();
            let heartbeats = times(&batch).iter().zip(serials.iter().flatten());
            // Rows of earlier versions may hold padding, or what a register reads as when it fails.
            for (ts, now) in heartbeats.filter_map(|(ts, now)| Some((ts, serial_of(now)?))) {
                if serial.as_deref() != Some(now) {
                    changes.extend(serial.replace(now.to_owned()).map(|_| *ts));
                }
            }
        }
        Ok(changes)
    }
}

/// Keeps a counter's next reading; the newest come first. Equal readings in a row are one: a register
/// that is stuck would else take all places.
fn keep(found: &mut Vec<Reading>, reading: Option<Reading>) {
    let Some(reading) = reading else { return };
    let full = found.len() >= KEPT;
    match found.last_mut() {
        #[expect(clippy::float_cmp, reason = "a register that is stuck shows the very same")]
        Some(last) if last.value == reading.value => last.ts = reading.ts,
        _ if full => {}
        _ => found.push(reading),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(values: impl IntoIterator<Item = Option<f64>>) -> Vec<(Micros, f64)> {
        let mut found = Vec::new();
        for (ts, value) in (0_i64..).zip(values) {
            // The newest comes first.
            keep(&mut found, value.map(|value| Reading { ts: -ts, value }));
        }
        found.iter().map(|reading| (reading.ts, reading.value)).collect()
    }

    #[test]
    fn a_register_that_is_stuck_takes_one_place() {
        let values = [Some(5.0), Some(5.0), None, Some(5.0), Some(4.0), Some(5.0)];
        assert_eq!(kept(values), [(-3, 5.0), (-4, 4.0), (-5, 5.0)], "the oldest of equal ones");
    }

    #[test]
    fn the_newest_readings_are_kept() {
        let falling = (0..20).map(|n| Some(f64::from(100 - n)));
        let found = kept(falling);
        assert_eq!(found.len(), KEPT);
        assert_eq!((found[0], found[KEPT - 1]), ((0, 100.0), (-7, 93.0)));
        // The last place goes on to the oldest of equal readings; nothing comes behind it.
        let stuck = (0..20).map(|n| Some(f64::from(100 - n.min(7))));
        assert_eq!(kept(stuck)[KEPT - 1], (-19, 93.0));
    }
}
