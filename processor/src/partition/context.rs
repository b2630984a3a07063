//! What the stages of a partition share, and how they wait for a component that is away.

use std::{ops::Range, sync::Arc, time::Duration};

use acuvim_lakehouse::{Lake, Rows, TailBatch};
use acuvim_log::{Bounds, LogTopic};
use acuvim_wire::{Micros, time};

use super::decode::StreamDecoder;
use crate::{
    dependencies::Dependencies, fatal::Fatal, options::ProcessorOptions, state::StateSender,
};

/// How long to wait before a component is asked again after an error.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long a record may take from its `received_at` to its place in the log: until then nothing is
/// concluded from its absence.
pub(super) const TRANSIT_TIME: Micros = 2 * time::SECOND;

/// A partition, and what its stages use.
pub(crate) struct Context {
    pub partition: u32,
    pub dependencies: Dependencies,
    pub options: Arc<ProcessorOptions>,
    pub state: StateSender,
}

impl Context {
    /// A decoder for the records of the partition.
    pub fn decoder(&self) -> StreamDecoder {
        let aliases = Arc::clone(&self.options.aliases);
        let epoch = self.dependencies.epoch;
        StreamDecoder::new(self.partition, epoch, self.options.limits, aliases)
    }

    /// The next offset whose rows are neither in the tail nor in the tables.
    pub fn rows_from(&self) -> i64 {
        let lake = &self.dependencies.lake;
        let next = lake.tail().next_offsets();
        let next =
            usize::try_from(self.partition).ok().and_then(|p| next.get(p).copied().flatten());
        next.unwrap_or_else(|| lake.next_offset(self.partition))
    }

    /// Puts the rows of a batch into the tail, from where on every query sees them. `rows_from` is
    /// the offset at which the tail goes on; the batch may begin before it.
    pub fn push(&self, rows_from: i64, offsets: &Range<i64>, rows: Rows) -> Result<(), Fatal> {
        let rows = match self.options.guards.lost_offset() {
            // Only in the test that the ledger's check finds lost rows.
            Some(offset) if offsets.contains(&offset) => {
                Rows { ledger: rows.ledger, ..Rows::none() }
            }
            _ => rows,
        };
        let batch = TailBatch { from: rows_from, next: offsets.end, rows };
        self.dependencies.lake.push(self.partition, batch).map_err(Fatal::failed)
    }

    /// Waits until the tail holds less than this.
    pub async fn wait_for_room(&self, max_bytes: usize) {
        let mut size = self.dependencies.lake.tail().size();
        if size.borrow_and_update().bytes < max_bytes {
            return;
        }
        self.state.tail_full(true);
        let _ = size.wait_for(|size| size.bytes < max_bytes).await;
        self.state.tail_full(false);
    }

    /// Asks the lake until it answers.
    pub async fn ask_lake<T, F>(&self, ask: impl Fn(Arc<Lake>) -> F) -> Result<T, Fatal>
    where
        F: Future<Output = Result<T, acuvim_lakehouse::Error>>,
    {
        loop {
            match ask(Arc::clone(&self.dependencies.lake)).await {
                Ok(answer) => {
                    self.state.dedup(None);
                    return Ok(answer);
                }
                Err(error) if error.kind() == acuvim_lakehouse::ErrorKind::Internal => {
                    return Err(Fatal::failed(error));
                }
                Err(error) => {
                    self.state.dedup(Some(error.to_string()));
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// The bounds of the partition in the log, once the log answers.
    pub async fn log_bounds(&self) -> Result<Bounds, Fatal> {
        loop {
            match self.dependencies.log.bounds(LogTopic::Uplink, self.partition).await {
                Ok(bounds) => {
                    self.state.log(None);
                    return Ok(bounds);
                }
                Err(error) => self.log_unavailable(error).await?,
            }
        }
    }

    /// Waits before the log is asked again after an error; fails if the log is damaged.
    pub async fn log_unavailable(&self, error: acuvim_log::Error) -> Result<(), Fatal> {
        if error.kind() == acuvim_log::ErrorKind::Corrupt {
            return Err(Fatal::failed(error));
        }
        self.state.log(Some(error.to_string()));
        tokio::time::sleep(RETRY_AFTER).await;
        Ok(())
    }

    /// Waits before control is asked again after an error; fails if control can't be used at all.
    pub async fn control_unavailable(&self, error: acuvim_control::Error) -> Result<(), Fatal> {
        control_unavailable(&self.state, error).await
    }
}

/// Waits before control is asked again after an error; fails if control can't be used at all.
pub(super) async fn control_unavailable(
    state: &StateSender,
    error: acuvim_control::Error,
) -> Result<(), Fatal> {
    if error.kind() == acuvim_control::ErrorKind::Internal {
        return Err(Fatal::failed(error));
    }
    state.control(Some(error.to_string()));
    tokio::time::sleep(RETRY_AFTER).await;
    Ok(())
}

/// Counts records that have passed the stages.
pub(super) fn count_processed(records: usize, no_known_readings: usize) {
    metrics::counter!("acuvim_records_processed_total").increment(records as u64);
    metrics::counter!("acuvim_no_known_readings_total").increment(no_known_readings as u64);
}
