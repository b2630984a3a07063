//! Reads a partition of the log in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_log::{Batch, ErrorKind, LogTopic, ReadLimit};

use super::context::{Context, RETRY_AFTER};
use crate::fatal::Fatal;

/// The most that one read brings: enough records to be worth a batch, few enough bytes to be quick
/// and to fit in memory even when all of them are the shortest of readings.
const READ_LIMIT: ReadLimit =
    ReadLimit { records: 4096, bytes: 2 << 20, wait: Duration::from_millis(200) };

/// After a batch smaller than this, the reader waits for more to gather: a batch costs the same
/// whether it holds one row or a hundred.
const SMALL_BATCH_BYTES: usize = 256 << 10;

/// How long it waits then: little beside the time that a reading may take to become visible.
const GATHER_TIME: Duration = Duration::from_millis(25);

/// How often a log is asked again that ends before the stored offset.
const MAX_END_RETRIES: u32 = 20;

/// Reads a partition of the log in order.
pub(super) struct Reader {
    context: Arc<Context>,
    /// The offset that is read next.
    next: i64,
    /// The log's end when reading began, until it is reached: before that, the tail lacks records
    /// that queries must see.
    end_at_start: Option<i64>,
    /// The log's end when the stop signal was seen.
    end_at_stop: Option<i64>,
}

impl Reader {
    /// A reader that begins at an offset.
    pub async fn open(context: Arc<Context>, next: i64) -> Result<Self, Fatal> {
        let end_at_start = Some(context.log_bounds().await?.end);
        Ok(Self { context, next, end_at_start, end_at_stop: None })
    }

    /// The offset that is read next.
    pub const fn next(&self) -> i64 {
        self.next
    }

    /// Reports it in the state once everything was read that the log had at the start.
    pub fn report_caught_up(&mut self) {
        if self.end_at_start.is_some_and(|end| self.next >= end) {
            self.end_at_start = None;
            self.context.state.caught_up(self.context.partition);
        }
    }

    /// Whether everything was read that the log had when this was first asked.
    pub async fn has_read_all(&mut self) -> Result<bool, Fatal> {
        // The end is taken once: devices go on sending, and the stop would never end.
        let end = match self.end_at_stop {
            Some(end) => end,
            None => *self.end_at_stop.insert(self.context.log_bounds().await?.end),
        };
        Ok(self.next >= end)
    }

    /// Whether the log ends here at this moment. An empty read alone does not mean that.
    pub async fn is_at_end(&self) -> Result<bool, Fatal> {
        Ok(self.context.log_bounds().await?.end <= self.next)
    }

    /// Reads the next records, which may be none; `None` if the log had dropped them and reading
    /// goes on behind the gap.
    pub async fn read(&mut self) -> Result<Option<Batch>, Fatal> {
        let log = &self.context.dependencies.log;
        loop {
            match log.read(LogTopic::Uplink, self.context.partition, self.next, READ_LIMIT).await {
                Ok(batch) => {
                    self.context.state.log(None);
                    if !batch.entries.is_empty() {
                        self.next = batch.next;
                    }
                    return Ok(Some(batch));
                }
                Err(error) if error.kind() == ErrorKind::OutOfRange => {
                    self.next = self.skip_lost().await?;
                    return Ok(None);
                }
                Err(error) => self.context.log_unavailable(error).await?,
            }
        }
    }

    /// Waits until more records have had time to gather, after a small batch; `begun` is when the
    /// pipeline was done with it.
    pub async fn gather(&self, begun: Instant) {
        tokio::time::sleep(GATHER_TIME.saturating_sub(begun.elapsed())).await;
    }

    /// The offset behind records that the log has dropped. Stopping would not bring those of them
    /// back that are in no table, and would only let more of them expire, so that is an error in
    /// the log file, with a metric to alert on.
    async fn skip_lost(&self) -> Result<i64, Fatal> {
        let (partition, next) = (self.context.partition, self.next);
        let mut bounds = self.context.log_bounds().await?;
        // A new leader of the partition may take a moment to know its end.
        for _ in 0..MAX_END_RETRIES {
            if next <= bounds.end {
                break;
            }
            tokio::time::sleep(RETRY_AFTER).await;
            bounds = self.context.log_bounds().await?;
        }
        if next > bounds.end {
            return Err(Fatal::Lost(format!(
                "partition {partition} ends at {}, and the tables have come to {next}: the log \
                 was replaced or set back",
                bounds.end
            )));
        }
        let (from, to) = (self.context.rows_from(), bounds.start);
        if from < to {
            let lost = u64::try_from(to - from).unwrap_or(0);
            metrics::counter!("acuvim_log_lost_records_total").increment(lost);
            tracing::error!(
                partition,
                from,
                to,
                "the log has dropped records that are in no table: they are lost; keep records for \
                 longer than the lake can be away"
            );
        }
        // Control may be behind the lake: what is still in the log is read for it.
        Ok(next.max(to))
    }
}

/// Whether a batch is so small that more should gather before the next read.
pub(super) fn is_small(batch: &Batch) -> bool {
    let bytes: usize = batch.entries.iter().map(|(_, entry)| entry.size()).sum();
    bytes < SMALL_BATCH_BYTES
}

#[cfg(test)]
mod tests;
