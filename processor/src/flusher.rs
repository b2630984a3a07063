//! When the tail goes to the lake: after a time or so many rows, and at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_lakehouse::Flushed;
use acuvim_log::LogTopic;
use tokio_util::task::TaskTracker;

use crate::{Fatal, Parts, ProcessorOptions, state::StateSender};

/// The cursor that tells the log what the lake has got.
pub const LAKE_CURSOR: &str = "lake";

/// How often the last flush is tried again.
const LAST_TRIES: u32 = 5;

/// A flush that takes longer is said to be in trouble.
const LONG: Duration = Duration::from_secs(30);

/// When the tail goes to the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushPolicy {
    /// After this time at the latest.
    pub interval: Duration,
    /// As soon as there are so many rows.
    pub rows: usize,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), rows: 100_000 }
    }
}

/// Flushes until the workers are done, and once more behind them.
pub(crate) async fn run(
    options: Arc<ProcessorOptions>,
    parts: Parts,
    state: StateSender,
    workers: TaskTracker,
) {
    let policy = options.flush;
    let mut size = parts.lake.tail().size();
    let mut pause = Duration::from_millis(100);
    let mut tries = 0;
    loop {
        let due = Instant::now() + policy.interval;
        // Rows of partitions that others write are not this process's to flush.
        let many =
            async { while parts.lake.rows_owed() < policy.rows && size.changed().await.is_ok() {} };
        let last = tokio::select! {
            () = tokio::time::sleep_until(due.into()) => false,
            () = many => false,
            () = workers.wait() => true,
        };
        match watched_flush(&parts, &options, &state, last).await {
            Ok(()) => {
                state.lake(None);
                pause = Duration::from_millis(100);
            }
            Err(Trouble::Fatal(fatal)) => return state.fatal(fatal),
            Err(Trouble::Overtaken(partition)) => {
                if !state.begin_anew(partition, options.shared) {
                    return;
                }
                // Nothing was committed; the next one begins behind the other.
                pause = Duration::from_millis(100);
                if last && tries < LAST_TRIES {
                    tries += 1;
                    continue;
                }
            }
            Err(Trouble::Passing(reason)) => {
                state.lake(Some(reason));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
                if last && tries < LAST_TRIES {
                    tries += 1;
                    continue;
                }
            }
        }
        if last {
            return;
        }
    }
}

/// A flush that says when it takes suspiciously long: a commit whose fate is not known waits for the
/// store for as long as it must.
async fn watched_flush(
    parts: &Parts,
    options: &ProcessorOptions,
    state: &StateSender,
    last: bool,
) -> Result<(), Trouble> {
    let flushing = flush(parts, options, last);
    tokio::pin!(flushing);
    loop {
        tokio::select! {
            flushed = &mut flushing => return flushed,
            () = tokio::time::sleep(LONG) => {
                state.lake(Some(format!("a flush has taken more than {} s", LONG.as_secs())));
            }
        }
    }
}

enum Trouble {
    Passing(String),
    Overtaken(u32),
    Fatal(Fatal),
}

async fn flush(parts: &Parts, options: &ProcessorOptions, last: bool) -> Result<(), Trouble> {
    let flushed = parts.lake.flush(last).await.map_err(|e| match e.kind() {
        acuvim_lakehouse::ErrorKind::Internal | acuvim_lakehouse::ErrorKind::NoVersion => {
            Trouble::Fatal(Fatal::Broken(e.to_string()))
        }
        acuvim_lakehouse::ErrorKind::Unavailable | acuvim_lakehouse::ErrorKind::Setup => {
            Trouble::Passing(e.to_string())
        }
    })?;
    match flushed {
        Flushed::Nothing => Ok(()),
        Flushed::Overtaken { partition } => Err(Trouble::Overtaken(partition)),
        Flushed::Done { covered, rows } => {
            // Only the embedded log's retention reads it: behind by one flush, it keeps more than
            // it must.
            for (partition, next) in covered.into_iter().filter(|_| !options.shared) {
                let noted =
                    parts.log.set_cursor(LAKE_CURSOR, LogTopic::Uplink, partition, next).await;
                if let Err(error) = noted {
                    tracing::debug!(%error, "the log's cursor was not noted");
                }
            }
            tracing::debug!(?rows, "flushed");
            Ok(())
        }
    }
}
