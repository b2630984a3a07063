//! What lies beside the readings of a history: what counters count on from, what contradicts the last of
//! them, and when the meter was another.

use acuvim_lakehouse::Reading;
use acuvim_schemas::{Micros, payload::serial_of, tables::Table, time::DAY};
use arrow::array::AsArray as _;
use datafusion::{
    error::Result as EngineResult,
    prelude::{SessionContext, col},
};
use futures::TryStreamExt as _;

use super::{
    ask::Order,
    fold::{Column, Fold},
    read::{Buckets, Floats, site_rows, times},
    rolled::last_quarter,
};

/// How far back the readings are looked for that counters count on from, and how far ahead those that
/// contradict the last of them.
const LOOK_BACK: Micros = 7 * DAY;

/// Readings of each counter that are looked back at: enough to tell which of them are suspect.
const LOOKED_AT: usize = 8;

/// Readings that are looked through for them, once each counter has one.
const LOOKED_THROUGH: usize = 5000;

impl Buckets {
    /// Learns where counters stood before a time.
    pub(super) async fn look_back(
        &self,
        context: &SessionContext,
        from: Micros,
        names: &[&str],
        fold: &mut Fold,
    ) -> EngineResult<()> {
        let near = (from.saturating_sub(LOOK_BACK), from);
        let mut before = self.last_readings(context, near, names).await?;
        if before.is_none()
            && let Some((device_id, _)) = self.site.0.first()
        {
            // What a meter has counted while its logger was away for long is counted too.
            let far = Micros::MIN..near.0;
            if let Some(quarter) = last_quarter(context, device_id, far).await? {
                let far = (quarter.saturating_sub(DAY), from);
                before = self.last_readings(context, far, names).await?;
            }
        }
        match before {
            Some((newest, found)) => fold.begin_behind(newest, &found),
            None => fold.begin(),
        }
        Ok(())
    }

    /// The time of the last reading in a time, and of each counter its last few, the newest first.
    async fn last_readings(
        &self,
        context: &SessionContext,
        range: (Micros, Micros),
        names: &[&str],
    ) -> EngineResult<Option<(Micros, Vec<Vec<Reading>>)>> {
        let table = Table::Telemetry;
        let rows = site_rows(context, table, &self.site, range, names, Order::Descending).await?;
        let mut rows = rows.execute_stream().await?;
        // Some readings are sent more seldom than others: each counts on from its own last ones.
        let counters = self.asked.folded();
        let mut found: Vec<Vec<Reading>> = vec![Vec::new(); names.len()];
        let (mut newest, mut looked) = (None, 0);
        while let Some(batch) = rows.try_next().await? {
            let columns: Vec<Floats<'_>> = batch.columns().iter().skip(1).map(Floats::of).collect();
            for (row, ts) in times(&batch).iter().enumerate() {
                newest = newest.or(Some(*ts));
                for (found, column) in found.iter_mut().zip(&columns) {
                    look_at(found, column.get(row).map(|value| Reading { ts: *ts, value }));
                }
            }
            looked += batch.num_rows();
            let lacks = |(found, of): (&Vec<_>, &Column)| of.counter.is_some() && found.is_empty();
            let wants =
                |(found, of): (&Vec<_>, &Column)| of.counter.is_some() && found.len() < LOOKED_AT;
            let (lacks, wants) =
                (found.iter().zip(&counters).any(lacks), found.iter().zip(&counters).any(wants));
            // An idle counter shows the same for long.
            if !wants || (looked > LOOKED_THROUGH && !lacks) {
                break;
            }
        }
        Ok(newest.map(|newest| (newest, found)))
    }

    /// Looks at the readings behind a time until none of what is counted before it can be taken back.
    pub(super) async fn look_ahead(
        &self,
        context: &SessionContext,
        from: Micros,
        names: &[&str],
        fold: &mut Fold,
    ) -> EngineResult<()> {
        if fold.is_settled() {
            return Ok(());
        }
        let range = (from, from.saturating_add(LOOK_BACK));
        let table = Table::Telemetry;
        let rows = site_rows(context, table, &self.site, range, names, Order::Ascending).await?;
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

    /// When another meter was connected, as heartbeats say.
    pub(super) async fn changes(
        &self,
        context: &SessionContext,
        from: Micros,
        to: Micros,
    ) -> EngineResult<Vec<Micros>> {
        let range = (from.saturating_sub(LOOK_BACK), to);
        let (table, order) = (Table::Heartbeats, Order::Ascending);
        let rows = site_rows(context, table, &self.site, range, &["meter_serial"], order).await?;
        let mut rows = rows.filter(col("meter_serial").is_not_null())?.execute_stream().await?;
        let (mut changes, mut serial) = (Vec::new(), None::<String>);
        while let Some(batch) = rows.try_next().await? {
            let serials = batch.column(1).as_string::<i32>();
            let told = times(&batch).iter().zip(serials.iter().flatten());
            // Rows of before may have what registers pad, or hold when they can't be read.
            for (ts, now) in told.filter_map(|(ts, now)| Some((ts, serial_of(now)?))) {
                if serial.as_deref() != Some(now) {
                    changes.extend(serial.replace(now.to_owned()).map(|_| *ts));
                }
            }
        }
        Ok(changes)
    }
}

/// Takes a counter's next reading, the newest first. A register that was stuck is one reading.
fn look_at(found: &mut Vec<Reading>, reading: Option<Reading>) {
    let Some(reading) = reading else { return };
    let full = found.len() >= LOOKED_AT;
    match found.last_mut() {
        #[expect(clippy::float_cmp, reason = "a register that is stuck shows the very same")]
        Some(last) if last.value == reading.value => last.ts = reading.ts,
        _ if full => {}
        _ => found.push(reading),
    }
}
