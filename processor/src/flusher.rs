//! Flushes the tail to the lake: at an interval, when it holds many rows, and once more at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::Flushed;
use acuvim_log::LogTopic;
use tokio_util::task::TaskTracker;

use crate::{
    dependencies::Dependencies, fatal::Fatal, options::ProcessorOptions, state::StateSender,
};

/// The log cursor of the offset up to which the lake has committed.
pub const LAKE_CURSOR: &str = "lake";

/// How often the last flush is tried again.
const LAST_RETRIES: u32 = 5;

/// The waits between retries of a flush that failed: doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// A flush that takes longer than this is reported as trouble with the lake.
const SLOW_FLUSH: Duration = Duration::from_secs(30);

/// Flushes until the partition tasks have ended, and once more after them.
pub(crate) async fn run(
    options: Arc<ProcessorOptions>,
    dependencies: Dependencies,
    state: StateSender,
    partitions: TaskTracker,
) {
    // Subscribed before the first count of rows, so that no change between the two is missed.
    let mut size = dependencies.lake.tail().size();
    let mut pause = FIRST_RETRY;
    let mut retries = 0;
    loop {
        // Counted from the end of the last flush: a slow store must not be asked without a pause.
        let due = Instant::now() + options.flush.interval;
        // Rows of partitions that other processes write are theirs to flush, so they don't count.
        let many_rows = async {
            while dependencies.lake.pending_rows() < options.flush.rows
                && size.changed().await.is_ok()
            {}
        };
        let last = tokio::select! {
            () = tokio::time::sleep_until(due.into()) => false,
            () = many_rows => false,
            () = partitions.wait() => true,
        };
        let retry = match watched_flush(&dependencies, &options, &state, last).await {
            Ok(()) => {
                state.lake(None);
                pause = FIRST_RETRY;
                false
            }
            Err(FlushError::Fatal(fatal)) => return state.fatal(fatal),
            Err(FlushError::Overtaken(partition)) => {
                if !state.begin_anew(partition, options.shared) {
                    return;
                }
                // Nothing was committed; the next flush builds on the other process's commit.
                pause = FIRST_RETRY;
                true
            }
            Err(FlushError::Unavailable(reason)) => {
                state.lake(Some(reason));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_RETRY);
                true
            }
        };
        // A process that ends has a time limit; what is not flushed is read from the log again.
        if last && retry && retries < LAST_RETRIES {
            retries += 1;
        } else if last {
            return;
        }
    }
}

/// Flushes, and reports it while that takes suspiciously long. There is no timeout: a commit whose
/// outcome is unknown can only be looked up once the store answers.
async fn watched_flush(
    dependencies: &Dependencies,
    options: &ProcessorOptions,
    state: &StateSender,
    last: bool,
) -> Result<(), FlushError> {
    let flushing = flush(dependencies, options, last);
    tokio::pin!(flushing);
    loop {
        tokio::select! {
            flushed = &mut flushing => return flushed,
            () = tokio::time::sleep(SLOW_FLUSH) => {
                let seconds = SLOW_FLUSH.as_secs();
                state.lake(Some(format!("a flush has taken more than {seconds} s")));
            }
        }
    }
}

enum FlushError {
    Unavailable(String),
    Overtaken(u32),
    Fatal(Fatal),
}

async fn flush(
    dependencies: &Dependencies,
    options: &ProcessorOptions,
    last: bool,
) -> Result<(), FlushError> {
    let flushed = dependencies.lake.flush(last).await.map_err(|error| match error.kind() {
        acuvim_lakehouse::ErrorKind::Internal | acuvim_lakehouse::ErrorKind::NoVersion => {
            FlushError::Fatal(Fatal::failed(error))
        }
        acuvim_lakehouse::ErrorKind::Unavailable
        | acuvim_lakehouse::ErrorKind::Overtaken
        | acuvim_lakehouse::ErrorKind::Setup => FlushError::Unavailable(error.to_string()),
    })?;
    match flushed {
        Flushed::Nothing => Ok(()),
        Flushed::Overtaken { partition } => Err(FlushError::Overtaken(partition)),
        Flushed::Done { covered, rows } => {
            // Only the embedded log's retention reads the cursor. A cursor that lags by one flush
            // only makes the log keep more than it must, so an error needs no retry.
            for (partition, next) in covered.into_iter().filter(|_| !options.shared) {
                let log = &dependencies.log;
                let set = log.set_cursor(LAKE_CURSOR, LogTopic::Uplink, partition, next).await;
                if let Err(error) = set {
                    tracing::debug!(%error, "the log's cursor of the lake was not moved");
                }
            }
            tracing::debug!(?rows, "flushed");
            Ok(())
        }
    }
}
