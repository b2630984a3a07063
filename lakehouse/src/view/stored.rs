//! Queries that the stream makes itself: rows by their place in the log, readings of a device by time,
//! and counts for the check of the ledger.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use acuvim_tables::{
    Table,
    ledger::{LedgerRow, rows_of},
};
use acuvim_wire::time::{DAY, Micros, day_of};
use arrow::{
    array::{AsArray as _, RecordBatch},
    compute::concat_batches,
    datatypes::Int64Type,
};
use datafusion::{
    functions_aggregate::expr_fn::{count, max},
    logical_expr::Expr,
    prelude::{DataFrame, col, lit},
};

use super::reader::Reader;
use crate::{
    batch::{column, device_times, times, timestamp},
    error::Error,
    memory::{DeviceDay, Newest},
};

/// The most readings of a device that are returned at once: a day with one a second, and some more.
const MAX_READINGS: usize = 100_000;

/// The most devices in the condition of one query.
const MAX_DEVICES: usize = 50;

/// The most times of one device in the condition of one query.
const MAX_TIMES: usize = 1000;

impl Reader {
    /// The stored times of device days, in tables and tail.
    pub async fn stored_times(
        &self,
        table: Table,
        wanted: &HashSet<DeviceDay>,
    ) -> Result<HashMap<DeviceDay, Vec<Micros>>, Error> {
        let mut by_day: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
        for (device, day) in wanted {
            by_day.entry(*day).or_default().push(device);
        }
        let mut found: HashMap<DeviceDay, Vec<Micros>> =
            wanted.iter().map(|w| (w.clone(), Vec::new())).collect();
        let all = self.hot(table)?;
        // One query per day, since a query over several days would open the files of all days
        // between.
        for (day, devices) in by_day {
            let start = i64::from(day) * DAY;
            let devices = devices.into_iter().map(lit).collect();
            let rows = self
                .query(Arc::clone(&all))?
                .filter(is_within(&(start..start + DAY)))?
                .filter(col("device_id").in_list(devices, false))?
                .select_columns(&["device_id", "ts"])?
                .collect()
                .await?;
            for (device, ts) in device_times(&rows)? {
                if let Some(times) = found.get_mut(&(device.into(), day)) {
                    times.push(ts);
                }
            }
        }
        Ok(found)
    }

    /// The committed readings of some records of a partition, in log order.
    pub async fn stored_readings(
        &self,
        partition: u32,
        offsets: Range<i64>,
    ) -> Result<RecordBatch, Error> {
        let rows = self
            .committed(Table::Telemetry)?
            .filter(self.is_from(partition, offsets))?
            .sort(vec![col("offset").sort(true, false), col("item").sort(true, false)])?
            .collect()
            .await?;
        Ok(concat_batches(&Table::Telemetry.schema(), &rows)?)
    }

    /// The newest plausible `ts` of each device of a partition among committed readings before an
    /// offset. Readings of earlier epochs count as before it.
    pub async fn newest_before(
        &self,
        newest: &Newest,
        partition: u32,
        offset: i64,
    ) -> Result<HashMap<Arc<str>, Micros>, Error> {
        let later = self.is_from(partition, offset..i64::MAX);
        let rows = self
            .committed(Table::Telemetry)?
            .filter(Expr::Not(Box::new(later)).and(self.is_plausible()))?
            .aggregate(vec![col("device_id")], vec![max(col("ts")).alias("ts")])?
            .collect()
            .await?;
        let ours = |(device, ts): (&str, Micros)| {
            (newest.partition(device) == partition).then(|| (device.into(), ts))
        };
        Ok(device_times(&rows)?.into_iter().filter_map(ours).collect())
    }

    /// A device's readings by time, and whether there are more than were returned.
    pub async fn device_readings(
        &self,
        device_id: &str,
        times: Range<Micros>,
    ) -> Result<(RecordBatch, bool), Error> {
        let rows = self
            .of_device(device_id, &times)?
            .sort(vec![col("ts").sort(true, false)])?
            // One more than is returned tells whether there are more.
            .limit(0, Some(MAX_READINGS + 1))?
            .collect()
            .await?;
        let rows = concat_batches(&Table::Telemetry.schema(), &rows)?;
        let more = rows.num_rows() > MAX_READINGS;
        Ok((rows.slice(0, rows.num_rows().min(MAX_READINGS)), more))
    }

    fn of_device(&self, device_id: &str, times: &Range<Micros>) -> Result<DataFrame, Error> {
        let rows = self.query(self.hot(Table::Telemetry)?)?;
        Ok(rows.filter(col("device_id").eq(lit(device_id)))?.filter(is_within(times))?)
    }

    /// The readings of devices at given times.
    pub async fn readings_at(
        &self,
        wanted: &BTreeMap<Arc<str>, BTreeSet<Micros>>,
    ) -> Result<Vec<RecordBatch>, Error> {
        let telemetry = self.hot(Table::Telemetry)?;
        let mut portions: Vec<(&Arc<str>, Vec<Micros>)> = Vec::new();
        for (device, times) in wanted {
            let times: Vec<Micros> = times.iter().copied().collect();
            portions.extend(times.chunks(MAX_TIMES).map(|some| (device, some.to_vec())));
        }
        let mut found = Vec::new();
        for some in portions.chunks(MAX_DEVICES) {
            let each = some.iter().filter_map(|(device, times)| is_at(device, times));
            let Some(any) = each.reduce(Expr::or) else { continue };
            found.extend(self.query(Arc::clone(&telemetry))?.filter(any)?.collect().await?);
        }
        Ok(found)
    }

    /// The times of devices' plausible readings in order, each from `span` before the time given with it
    /// up to that time.
    pub async fn times_up_to(
        &self,
        wanted: &[(Arc<str>, Micros)],
        span: Micros,
    ) -> Result<HashMap<Arc<str>, Vec<Micros>>, Error> {
        let telemetry = self.hot(Table::Telemetry)?;
        let of_device = |(device, newest): &(Arc<str>, Micros)| {
            let (from, to) = (timestamp(newest.saturating_sub(span)), timestamp(*newest));
            col("device_id")
                .eq(lit(device.as_ref()))
                .and(col("ts").gt_eq(from).and(col("ts").lt_eq(to)))
        };
        let mut found: HashMap<Arc<str>, Vec<Micros>> = HashMap::new();
        for some in wanted.chunks(MAX_DEVICES) {
            let Some(any) = some.iter().map(of_device).reduce(Expr::or) else { continue };
            let rows = self.query(Arc::clone(&telemetry))?.filter(any.and(self.is_plausible()))?;
            let rows = rows.select_columns(&["device_id", "ts"])?.collect().await?;
            for (device, ts) in device_times(&rows)? {
                found.entry(device.into()).or_default().push(ts);
            }
        }
        found.values_mut().for_each(|times| times.sort_unstable());
        Ok(found)
    }

    /// The times of a device's plausible readings in order; only the last `limit` of them.
    pub async fn device_times(
        &self,
        device_id: &str,
        within: Range<Micros>,
        limit: usize,
    ) -> Result<Vec<Micros>, Error> {
        let rows = self
            .of_device(device_id, &within)?
            .filter(self.is_plausible())?
            .select_columns(&["ts"])?
            // Backwards, so that the limit takes the last ones.
            .sort(vec![col("ts").sort(false, false)])?
            .limit(0, Some(limit))?
            .collect()
            .await?;
        let mut found = Vec::new();
        for batch in &rows {
            found.extend_from_slice(times(batch, "ts")?);
        }
        found.reverse();
        Ok(found)
    }

    /// The ledger's rows of a partition from an offset on.
    pub async fn ledger_from(&self, partition: u32, from: i64) -> Result<Vec<LedgerRow>, Error> {
        let rows = self
            .committed(Table::Ledger)?
            .filter(self.is_from(partition, from..i64::MAX))?
            .filter(col("device_id").is_null())?
            .sort(vec![col("first_offset").sort(true, false), col("minute").sort(true, false)])?
            .collect()
            .await?;
        Ok(rows.iter().flat_map(rows_of).collect())
    }

    /// The number of a table's rows for each of some records of a partition, by offset.
    pub async fn rows_by_offset(
        &self,
        table: Table,
        partition: u32,
        offsets: Range<i64>,
    ) -> Result<HashMap<i64, i64>, Error> {
        let rows = self
            .committed(table)?
            .filter(self.is_from(partition, offsets))?
            .aggregate(vec![col("offset")], vec![count(lit(1)).alias("n")])?
            .collect()
            .await?;
        let mut counts = HashMap::new();
        for batch in &rows {
            let offsets = column(batch, "offset")?.as_primitive::<Int64Type>().values();
            let numbers = column(batch, "n")?.as_primitive::<Int64Type>().values();
            counts.extend(offsets.iter().copied().zip(numbers.iter().copied()));
        }
        Ok(counts)
    }

    /// The approximate number of committed rows of the UTC day of a time.
    pub fn rows_of_day(&self, table: Table, at: Micros) -> Result<usize, Error> {
        let day = day_of(at);
        let snapshot = self.tables.snapshot(table)?;
        Ok(snapshot.files.iter().filter(|f| f.date == day).filter_map(|f| f.rows).sum())
    }
}

/// The condition that `ts` lies within a range.
pub(crate) fn is_within(times: &Range<Micros>) -> Expr {
    col("ts").gt_eq(timestamp(times.start)).and(col("ts").lt(timestamp(times.end)))
}

/// The condition that a reading is a device's and has one of some times, which are in order. The range
/// is for pruning: a long list does not prune files.
fn is_at(device: &str, times: &[Micros]) -> Option<Expr> {
    let (first, last) = (times.first().copied()?, times.last().copied()?);
    let within = col("ts").gt_eq(timestamp(first)).and(col("ts").lt_eq(timestamp(last)));
    let times = times.iter().map(|ts| timestamp(*ts)).collect();
    Some(col("device_id").eq(lit(device)).and(within).and(col("ts").in_list(times, false)))
}

#[cfg(test)]
mod tests;
