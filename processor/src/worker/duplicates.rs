//! Dropping the duplicates of a batch, for which old readings need the lake's stored times.

use std::collections::{HashMap, HashSet};

use acuvim_lakehouse::{Rows, Wanted};
use acuvim_schemas::Micros;
use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::TimestampMicrosecondType,
};

use super::{AWAY, Worker};
use crate::Fatal;

impl Worker {
    /// The rows that are not stored yet.
    pub(super) async fn without_duplicates(&mut self, rows: Rows) -> Result<Rows, Fatal> {
        if rows.telemetry.num_rows() == 0 || !self.options.dedup {
            return Ok(rows);
        }
        let broken = |e: arrow::error::ArrowError| Fatal::Broken(e.to_string());
        let readings = pairs(&rows.telemetry)?;
        let wanted = self.dedup.wanted(readings.iter().copied());
        if !wanted.is_empty() {
            for (day, times) in self.stored_times(&wanted).await? {
                self.dedup.load(day, times);
            }
        }
        let new = self.dedup.judge(readings.into_iter());
        if new.iter().all(|new| *new) {
            return Ok(rows);
        }
        let telemetry = filter_record_batch(&rows.telemetry, &BooleanArray::from(new));
        Ok(Rows { telemetry: telemetry.map_err(broken)?, ..rows })
    }

    async fn stored_times(
        &self,
        wanted: &HashSet<Wanted>,
    ) -> Result<HashMap<Wanted, Vec<Micros>>, Fatal> {
        loop {
            match self.parts.lake.stored_times(wanted).await {
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

fn pairs(rows: &RecordBatch) -> Result<Vec<(&str, Micros)>, Fatal> {
    let (Some(devices), Some(times)) =
        (rows.column_by_name("device_id"), rows.column_by_name("ts"))
    else {
        return Err(Fatal::Broken("decoded rows have no device_id or ts".to_owned()));
    };
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    Ok(devices.as_string::<i32>().iter().flatten().zip(times.iter().copied()).collect())
}
