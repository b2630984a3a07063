//! What is stored, read back for the stream: rows by their place in the log, a device's readings by
//! their time, and counts for the ledger's check.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use acuvim_schemas::{
    ledger::{LedgerRow, rows_of},
    tables::Table,
    time::Micros,
};
use arrow::{
    array::{AsArray as _, RecordBatch},
    compute::concat_batches,
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use datafusion::{
    functions_aggregate::expr_fn::max,
    logical_expr::Expr,
    prelude::{DataFrame, col, lit},
};

use crate::{
    Error, Lake, UnionTable, View,
    lake::{device_times, no_table, timestamp},
    writer::column,
};

/// Readings of one device that come in one piece at most: a day of one a second, and some.
const MOST_READINGS: usize = 100_000;

/// Devices that are asked for at once.
const DEVICES: usize = 50;

/// Times of one device that are asked for at once.
const TIMES: usize = 1000;

impl Lake {
    /// The committed readings of a partition's records from one offset up to another, in log order:
    /// what a stream that is behind the lake would have made of those records.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn stored_readings(
        &self,
        partition: u32,
        from: i64,
        to: i64,
    ) -> Result<RecordBatch, Error> {
        let rows = self
            .committed(Table::Telemetry)?
            .filter(self.of_partition(partition, from, to))?
            .sort(vec![col("offset").sort(true, false), col("item").sort(true, false)])?
            .collect()
            .await?;
        Ok(concat_batches(&Table::Telemetry.schema(), &rows)?)
    }

    /// The newest `ts` of each device among the committed readings of a partition before an offset,
    /// but for those that were ahead of their arrival.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn newest_before(
        &self,
        partition: u32,
        offset: i64,
    ) -> Result<HashMap<Arc<str>, Micros>, Error> {
        let behind = self.of_partition(partition, offset, i64::MAX);
        let rows = self
            .committed(Table::Telemetry)?
            .filter(Expr::Not(Box::new(behind)).and(self.is_of_now()))?
            .aggregate(vec![col("device_id")], vec![max(col("ts")).alias("ts")])?
            .collect()
            .await?;
        let ours = |(device, ts): (&str, Micros)| {
            (self.newest().partition(device) == partition).then(|| (device.into(), ts))
        };
        Ok(device_times(&rows)?.into_iter().filter_map(ours).collect())
    }

    /// A device's readings, stored or in the tail, from one time up to another, by time: no more
    /// than so many, and whether there are more.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn device_readings(
        &self,
        device_id: &str,
        from: Micros,
        to: Micros,
    ) -> Result<(RecordBatch, bool), Error> {
        let rows = self
            .of_device(device_id, from..to)?
            .sort(vec![col("ts").sort(true, false)])?
            .limit(0, Some(MOST_READINGS + 1))?
            .collect()
            .await?;
        let rows = concat_batches(&Table::Telemetry.schema(), &rows)?;
        let more = rows.num_rows() > MOST_READINGS;
        Ok((rows.slice(0, rows.num_rows().min(MOST_READINGS)), more))
    }

    /// A device's readings of a time, stored or in the tail.
    fn of_device(&self, device_id: &str, times: Range<Micros>) -> Result<DataFrame, Error> {
        let telemetry = self.view(true)?.table(Table::Telemetry).ok_or_else(no_table)?;
        let within =
            col("ts").gt_eq(timestamp(times.start)).and(col("ts").lt(timestamp(times.end)));
        let rows = self.engine.session().read_table(telemetry as _)?;
        Ok(rows.filter(col("device_id").eq(lit(device_id)))?.filter(within)?)
    }

    /// The readings of devices at some times, stored or in the tail.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn readings_at(
        &self,
        wanted: &BTreeMap<Arc<str>, BTreeSet<Micros>>,
    ) -> Result<Vec<RecordBatch>, Error> {
        let telemetry = self.view(true)?.table(Table::Telemetry).ok_or_else(no_table)?;
        let of_device = |(device, times): &(&Arc<str>, Vec<Micros>)| {
            let (first, last) = (times.first().copied()?, times.last().copied()?);
            let within = col("ts").gt_eq(timestamp(first)).and(col("ts").lt_eq(timestamp(last)));
            let times = times.iter().map(|ts| timestamp(*ts)).collect();
            let theirs = col("device_id").eq(lit(device.as_ref())).and(within);
            Some(theirs.and(col("ts").in_list(times, false)))
        };
        let mut found = Vec::new();
        let mut pieces: Vec<(&Arc<str>, Vec<Micros>)> = Vec::new();
        for (device, times) in wanted {
            let times: Vec<Micros> = times.iter().copied().collect();
            pieces.extend(times.chunks(TIMES).map(|some| (device, some.to_vec())));
        }
        for some in pieces.chunks(DEVICES) {
            let Some(any) = some.iter().filter_map(of_device).reduce(Expr::or) else { continue };
            let rows = self.engine.session().read_table(Arc::clone(&telemetry) as _)?;
            found.extend(rows.filter(any)?.collect().await?);
        }
        Ok(found)
    }

    /// The times of devices' readings, stored or in the tail, in order, each up to the time that is
    /// given with it and from so long before; not of those that were ahead of their arrival.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn times_up_to(
        &self,
        wanted: &[(Arc<str>, Micros)],
        span: Micros,
    ) -> Result<HashMap<Arc<str>, Vec<Micros>>, Error> {
        let telemetry = self.view(true)?.table(Table::Telemetry).ok_or_else(no_table)?;
        let of_device = |(device, newest): &(Arc<str>, Micros)| {
            let (from, to) = (timestamp(newest.saturating_sub(span)), timestamp(*newest));
            col("device_id")
                .eq(lit(device.as_ref()))
                .and(col("ts").gt_eq(from).and(col("ts").lt_eq(to)))
        };
        let mut found: HashMap<Arc<str>, Vec<Micros>> = HashMap::new();
        for some in wanted.chunks(DEVICES) {
            let Some(any) = some.iter().map(of_device).reduce(Expr::or) else { continue };
            let rows = self.engine.session().read_table(Arc::clone(&telemetry) as _)?;
            let rows = rows.filter(any.and(self.is_of_now()))?;
            let rows = rows.select_columns(&["device_id", "ts"])?.collect().await?;
            for (device, ts) in device_times(&rows)? {
                found.entry(device.into()).or_default().push(ts);
            }
        }
        found.values_mut().for_each(|times| times.sort_unstable());
        Ok(found)
    }

    /// The times of a device's readings, stored or in the tail, from one up to another, in order; not
    /// of those that were ahead of their arrival. The last so many.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn device_times(
        &self,
        device_id: &str,
        from: Micros,
        to: Micros,
        last: usize,
    ) -> Result<Vec<Micros>, Error> {
        let rows = self
            .of_device(device_id, from..to)?
            .filter(self.is_of_now())?
            .select_columns(&["ts"])?
            .sort(vec![col("ts").sort(false, false)])?
            .limit(0, Some(last))?
            .collect()
            .await?;
        let mut times = Vec::new();
        for batch in &rows {
            let column = column(batch, "ts")?.as_primitive::<TimestampMicrosecondType>();
            times.extend_from_slice(column.values());
        }
        times.reverse();
        Ok(times)
    }

    /// The ledger's rows of a partition that begin at an offset or behind it.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn ledger_from(&self, partition: u32, from: i64) -> Result<Vec<LedgerRow>, Error> {
        let rows = self
            .committed(Table::Ledger)?
            .filter(self.of_partition(partition, from, i64::MAX))?
            .filter(col("device_id").is_null())?
            .sort(vec![col("first_offset").sort(true, false), col("minute").sort(true, false)])?
            .collect()
            .await?;
        Ok(rows.iter().flat_map(rows_of).collect())
    }

    /// How many rows a table has of each of a partition's records, from one offset up to another.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn rows_by_offset(
        &self,
        table: Table,
        partition: u32,
        from: i64,
        to: i64,
    ) -> Result<HashMap<i64, i64>, Error> {
        use datafusion::functions_aggregate::expr_fn::count;
        let rows = self
            .committed(table)?
            .filter(self.of_partition(partition, from, to))?
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

    /// About how many committed rows a table has of the UTC day of a time.
    ///
    /// # Errors
    /// Never for a table of [`Table::ALL`].
    pub fn rows_of_day(&self, table: Table, at: Micros) -> Result<usize, Error> {
        let day = acuvim_schemas::time::day_of(at);
        let snapshot = self.snapshot(table)?;
        Ok(snapshot.files.iter().filter(|f| f.date == day).filter_map(|f| f.rows).sum())
    }

    /// The rows of a partition's records from one offset up to another.
    pub(crate) fn of_partition(&self, partition: u32, from: i64, to: i64) -> Expr {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        col("partition")
            .eq(lit(partition))
            .and(col("epoch").eq(lit(self.options.epoch)))
            .and(col("offset").gt_eq(lit(from)))
            .and(col("offset").lt(lit(to)))
    }

    fn committed(&self, table: Table) -> Result<DataFrame, Error> {
        let snapshot = self.snapshot(table)?;
        let rows: Arc<UnionTable> = View::of_files(self.table(table)?, &snapshot);
        Ok(self.engine.session().read_table(rows as _)?)
    }
}
