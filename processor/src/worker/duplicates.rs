//! Dropping the duplicates of a batch, for which old readings need the lake's stored times.

use std::collections::{HashMap, HashSet};

use acuvim_lakehouse::{Dedup, Rows, Wanted};
use acuvim_schemas::{Micros, tables::Table};
use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::TimestampMicrosecondType,
};

use super::{
    AWAY, Worker,
    count::{New, count},
};
use crate::Fatal;

impl Worker {
    /// The rows that are not stored yet, with all of them counted. Everything that has to be asked of
    /// the lake is asked first: from the first verdict on nothing waits, so that a worker that is
    /// given up has either judged and kept its rows, or neither.
    pub(super) async fn without_duplicates(
        &mut self,
        mut rows: Rows,
        ledger_from: i64,
    ) -> Result<Rows, Fatal> {
        if self.options.dedup {
            self.load_times(Table::Telemetry, &rows.telemetry).await?;
            self.load_times(Table::Heartbeats, &rows.heartbeats).await?;
        }
        let (readings, heartbeats) = (&mut self.dedup, &mut self.heartbeat_dedup);
        let dedup = self.options.dedup;
        for (table, judge) in [(Table::Telemetry, readings), (Table::Heartbeats, heartbeats)] {
            let all = match table {
                Table::Telemetry => &mut rows.telemetry,
                _ => &mut rows.heartbeats,
            };
            let new = match dedup {
                true => are_new(judge, all)?,
                false => None,
            };
            count(&mut rows.ledger, all, &new, ledger_from, |counts| match table {
                Table::Telemetry => counts.stored = 1,
                _ => counts.heartbeats = 1,
            });
            if let Some(new) = new {
                let duplicates = new.len() - new.true_count();
                metrics::counter!("acuvim_duplicates_total").increment(duplicates as u64);
                *all = filter_record_batch(all, &new).map_err(|e| Fatal::Broken(e.to_string()))?;
            }
        }
        Ok(rows)
    }

    /// Loads the stored times that these rows are to be judged by.
    async fn load_times(&mut self, table: Table, rows: &RecordBatch) -> Result<(), Fatal> {
        let dedup = match table {
            Table::Telemetry => &self.dedup,
            _ => &self.heartbeat_dedup,
        };
        let wanted = dedup.wanted(pairs(rows)?.into_iter());
        if wanted.is_empty() {
            return Ok(());
        }
        let times = self.stored_times(table, &wanted).await?;
        let dedup = match table {
            Table::Telemetry => &mut self.dedup,
            _ => &mut self.heartbeat_dedup,
        };
        times.into_iter().for_each(|(day, times)| dedup.load(day, times));
        Ok(())
    }

    async fn stored_times(
        &self,
        table: Table,
        wanted: &HashSet<Wanted>,
    ) -> Result<HashMap<Wanted, Vec<Micros>>, Fatal> {
        loop {
            match self.parts.lake.stored_times(table, wanted).await {
                Ok(times) => {
                    self.state.dedup(None);
                    return Ok(times);
                }
                Err(error) if error.kind() == acuvim_lakehouse::ErrorKind::Internal => {
                    return Err(Fatal::Broken(error.to_string()));
                }
                Err(error) => {
                    self.state.dedup(Some(error.to_string()));
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
    }
}

/// Which rows are not stored yet; none: all of them.
fn are_new(dedup: &mut Dedup, rows: &RecordBatch) -> Result<New, Fatal> {
    let new = dedup.judge(pairs(rows)?.into_iter());
    Ok((!new.iter().all(|new| *new)).then(|| BooleanArray::from(new)))
}

fn pairs(rows: &RecordBatch) -> Result<Vec<(&str, Micros)>, Fatal> {
    let (Some(devices), Some(times)) =
        (rows.column_by_name("device_id"), rows.column_by_name("ts"))
    else {
        return Err(Fatal::Broken("decoded rows have no device_id or ts".to_owned()));
    };
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    Ok(devices.as_string::<i32>().iter().flatten().zip(times.iter().copied()).collect())
}
