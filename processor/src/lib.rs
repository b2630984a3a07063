//! The stream: reads the log, decodes it into rows, drops duplicates, keeps the rows in the tail
//! and flushes them to the lake; notes in control what records say of devices.
//!
//! One worker a partition, one flusher, one upkeep task. Every offset moves only together with what
//! it covers: rows in the lake's commits, changes in control's transactions.

mod decode;
mod flusher;
mod state;
mod upkeep;
mod worker;

use std::{sync::Arc, time::Duration};

use acuvim_control::Control;
use acuvim_lakehouse::{CompactionPolicy, Lake};
use acuvim_log::Log;
use acuvim_schemas::telemetry::{Aliases, Limits};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use decode::{Decoded, StreamDecoder};
pub use flusher::FlushPolicy;
pub use state::{ProcessorState, StateWatch};

use state::StateSender;

/// How the stream is processed.
#[derive(Debug, Clone)]
pub struct ProcessorOptions {
    /// When the tail goes to the lake.
    pub flush: FlushPolicy,
    /// How many files are merged into one.
    pub compaction: CompactionPolicy,
    /// How often files that are due for it are looked for.
    pub compaction_interval: Duration,
    /// How long files stay that no newer version of a table refers to: longer than any query runs.
    pub keep_files: Duration,
    /// Bytes the tail may hold before reading stops.
    pub max_tail_bytes: usize,
    /// What telemetry is judged by.
    pub limits: Limits,
    /// Foreign keys.
    pub aliases: Arc<Aliases>,
    /// Drop duplicates. Off only to prove that it matters.
    pub dedup: bool,
}

impl Default for ProcessorOptions {
    fn default() -> Self {
        Self {
            flush: FlushPolicy::default(),
            compaction: CompactionPolicy::default(),
            compaction_interval: Duration::from_secs(10),
            keep_files: Duration::from_secs(24 * 3600),
            max_tail_bytes: 512 << 20,
            limits: Limits::default(),
            aliases: Arc::default(),
            dedup: true,
        }
    }
}

/// What the stream reads and writes.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where records come from.
    pub log: Arc<dyn Log>,
    /// Where rows go.
    pub lake: Arc<Lake>,
    /// Where devices are noted.
    pub control: Control,
    /// The log's epoch.
    pub epoch: i32,
}

/// Why the stream stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// Another process writes the same tables.
    #[error(
        "partition {0} is being written by another process: two processors share this lake or \
         control database, but not their log; stop one of them"
    )]
    Overtaken(u32),
    /// Records that were promised are gone from the log.
    #[error("the log has lost records that are in no table yet: {0}")]
    Lost(String),
    /// What is stored can't be read.
    #[error("{0}")]
    Broken(String),
}

/// The running stream.
#[derive(Debug)]
pub struct Processor {
    state: StateWatch,
    stop: CancellationToken,
    give_up: CancellationToken,
    tasks: TaskTracker,
    flusher: tokio::task::JoinHandle<()>,
}

impl Processor {
    /// Starts to process every partition of the log.
    #[must_use]
    pub fn start(options: ProcessorOptions, parts: Parts) -> Self {
        let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let partitions = parts.log.partitions();
        let state = StateSender::new(partitions);
        let watch = state.watch();
        let options = Arc::new(options);
        for partition in 0..partitions {
            let worker = worker::Worker::new(partition, &options, &parts, state.clone());
            let work = worker.run(stop.clone(), give_up.clone());
            tasks.spawn(watched("a worker", work, state.clone()));
        }
        tasks.spawn(upkeep::run(Arc::clone(&options), Arc::clone(&parts.lake), stop.clone()));
        tasks.close();
        // Goes on behind the workers, to flush what they have read last.
        let flusher = flusher::run(options.flush, parts, state.clone(), tasks.clone());
        let flusher = tokio::spawn(watched("the flusher", flusher, state));
        Self { state: watch, stop, give_up, tasks, flusher }
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> StateWatch {
        self.state.clone()
    }

    /// Reads what the log has at this moment, flushes and commits; answers when that is done, or
    /// when the time is over: losing nothing does not depend on it. Reading takes a quarter of the
    /// time at most.
    pub async fn stop(self, within: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(within / 4, self.tasks.wait()).await.is_err() {
            tracing::info!("the log has more than can be read now; the next start goes on with it");
            self.give_up.cancel();
        }
        let ended = async {
            self.tasks.wait().await;
            let _ = self.flusher.await;
        };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!("the last flush was not done in time; it is done at the next start");
        }
    }
}

/// Runs a task; its panic stops the stream, and does not pass unnoticed.
async fn watched(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
    state: StateSender,
) {
    if let Err(error) = tokio::spawn(task).await {
        state.fatal(Fatal::Broken(format!("{name} ended: {error}")));
    }
}
