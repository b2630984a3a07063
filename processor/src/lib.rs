//! The stream: reads the log, decodes it into rows, drops duplicates, keeps the rows in the tail
//! and flushes them to the lake; notes in control what records say of devices and commands, and
//! delivers what such changes cause.
//!
//! One worker a partition, one flusher, one upkeep task. Where several processes share the
//! partitions, each writes those that it has claimed. Every offset moves only together with what
//! it covers: rows in the lake's commits, changes in control's transactions.

mod decode;
mod flusher;
mod follower;
mod guard;
mod judging;
mod meters;
mod notes;
mod notify;
mod outbox;
mod retention;
mod rollups;
mod state;
mod supervisor;
mod upkeep;
mod worker;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use acuvim_control::{Control, Reminders, Resend, SystemCondition};
use acuvim_lakehouse::{CompactionPolicy, Lake};
use acuvim_log::{Claim, Log};
use acuvim_schemas::telemetry::{Aliases, Limits};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use acuvim_rules::{HealthPolicy, VitalLimits};
pub use decode::{Decoded, StreamDecoder};
pub use flusher::{FlushPolicy, LAKE_CURSOR};
pub use notify::{AllowedNetworks, NotifyOptions, refused_address};
pub use retention::Retention;
pub use state::{ProcessorState, StateWatch};

use state::StateSender;
use supervisor::Supervisor;

/// How the stream is processed.
#[derive(Debug, Clone)]
pub struct ProcessorOptions {
    /// When the tail goes to the lake.
    pub flush: FlushPolicy,
    /// How many files are merged into one.
    pub compaction: CompactionPolicy,
    /// How often files that are due for it are looked for.
    pub compaction_interval: Duration,
    /// How often readings are brought into the rollups.
    pub rollup_interval: Duration,
    /// How long files stay that no newer version of a table refers to: longer than any query runs.
    pub keep_files: Duration,
    /// How many days each table keeps.
    pub retention: Retention,
    /// How long after its start a process does that first: those that are restarted often get to it
    /// too.
    pub first_cleanup: Duration,
    /// How often what is older, and files that are not needed, are removed.
    pub cleanup_interval: Duration,
    /// Bytes the tail may hold before reading stops.
    pub max_tail_bytes: usize,
    /// What telemetry is judged by.
    pub limits: Limits,
    /// Foreign keys.
    pub aliases: Arc<Aliases>,
    /// Drop duplicates. Off only to prove that it matters.
    pub dedup: bool,
    /// Whether other processes write the same tables from the same log: being overtaken is then
    /// expected, and otherwise the sign of a mistake.
    pub shared: bool,
    /// How long commands that ended and the audit are kept.
    pub keep_history: Duration,
    /// How often commands are looked at whose time may be over.
    pub command_check: Duration,
    /// How configuration is sent again to devices that come back.
    pub resend: Resend,
    /// How silence is judged, and how often.
    pub health: HealthPolicy,
    /// How often silence is judged.
    pub health_check: Duration,
    /// The limits of what heartbeats say.
    pub vitals: VitalLimits,
    /// When somebody is reminded of an alert.
    pub reminders: Reminders,
    /// How often the ledger and the components are looked at.
    pub guard_interval: Duration,
    /// How long a device's late readings must have ceased before it is repaired.
    pub repair_calm: Duration,
    /// How long the log keeps records.
    pub log_retention: Duration,
    /// What the composition root knows to be wrong, such as a disk that is nearly full.
    pub conditions: Conditions,
    /// How people are told of what happens.
    pub notify: Arc<notify::NotifyOptions>,
    /// Lose the rows of the batch with this offset. Only to prove that the ledger finds it.
    pub drop_offset: Option<i64>,
}

/// Tells what is wrong with the system, as others see it.
#[derive(Clone)]
pub struct Conditions(pub Arc<dyn Fn() -> Vec<SystemCondition> + Send + Sync>);

impl std::fmt::Debug for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conditions")
    }
}

impl Default for ProcessorOptions {
    fn default() -> Self {
        Self {
            flush: FlushPolicy::default(),
            compaction: CompactionPolicy::default(),
            compaction_interval: Duration::from_secs(10),
            rollup_interval: Duration::from_secs(300),
            keep_files: Duration::from_secs(24 * 3600),
            retention: Retention::default(),
            first_cleanup: Duration::from_secs(600),
            cleanup_interval: Duration::from_secs(24 * 3600),
            max_tail_bytes: 512 << 20,
            limits: Limits::default(),
            aliases: Arc::default(),
            dedup: true,
            shared: false,
            keep_history: Duration::from_secs(730 * 86_400),
            command_check: Duration::from_secs(5),
            resend: Resend::default(),
            health: HealthPolicy::default(),
            health_check: Duration::from_secs(30),
            vitals: VitalLimits::default(),
            reminders: Reminders::default(),
            guard_interval: Duration::from_secs(30),
            repair_calm: Duration::from_secs(3),
            log_retention: Duration::from_secs(7 * 86_400),
            conditions: Conditions(Arc::new(Vec::new)),
            notify: Arc::default(),
            drop_offset: None,
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

/// What this process does.
#[derive(Debug)]
pub struct Duties {
    /// The partitions that it writes; none: it writes nothing.
    pub claim: Option<Claim>,
    /// Whether it follows all other partitions, for queries.
    pub follow: bool,
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
    /// Given up last, so that nobody takes over what is still being flushed.
    claim: Option<Claim>,
}

impl Processor {
    /// Starts to process the partitions that the duties say.
    #[must_use]
    pub fn start(options: ProcessorOptions, parts: Parts, duties: Duties) -> Self {
        let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let options = Arc::new(options);
        let owned = match &duties.claim {
            Some(claim) => claim.owned(),
            None => watch::Sender::new(BTreeSet::new()).subscribe(),
        };
        let at_first: Vec<u32> = if duties.follow {
            (0..parts.log.partitions()).collect()
        } else {
            owned.borrow().iter().copied().collect()
        };
        let state = StateSender::new(at_first);
        let watch = state.watch();
        let (judging, judged_by) = watch::channel(None);
        let supervisor = Supervisor {
            judging: judged_by,
            options: Arc::clone(&options),
            parts: parts.clone(),
            state: state.clone(),
            owned,
            follow_others: duties.follow,
            stop: stop.clone(),
            give_up: give_up.clone(),
        };
        tasks.spawn(watched("the supervisor", supervisor.run(), state.clone()));
        if options.shared {
            let lake = Arc::clone(&parts.lake);
            let follow = follower::run(lake, state.clone(), stop.clone(), give_up.clone());
            tasks.spawn(watched("the follower", follow, state.clone()));
        }
        let meters = meters::follow(parts.clone(), options.rollup_interval, stop.clone());
        tasks.spawn(watched("what is known of meters", meters, state.clone()));
        if let Some(claim) = &duties.claim {
            let (mut trouble, told) = (claim.trouble(), state.clone());
            tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                while trouble.changed().await.is_ok() {
                    told.claim(trouble.borrow_and_update().clone());
                }
            }));
            let holder = Arc::new(upkeep::Holder::new());
            let (of, own) = (Arc::clone(&options), Arc::clone(&holder));
            let upkeep = upkeep::run(of, parts.clone(), own, stop.clone());
            tasks.spawn(watched("the upkeep", upkeep, state.clone()));
            let rollups = rollups::run(Arc::clone(&options), parts.clone(), holder, stop.clone());
            tasks.spawn(watched("the rollups", rollups, state.clone()));
            let interval = options.flush.interval;
            let outbox = outbox::run(parts.clone(), state.clone(), interval, stop.clone());
            tasks.spawn(watched("the outbox", outbox, state.clone()));
            let notify = Arc::clone(&options.notify);
            let notify = notify::run(parts.clone(), notify, stop.clone());
            tasks.spawn(watched("the notifications", notify, state.clone()));
            let control = parts.control.clone();
            let max_ahead = options.limits.max_ahead;
            let follow = judging::follow(control, max_ahead, judging, state.clone());
            tasks.spawn(watched("the rules", follow, state.clone()));
            let guard =
                guard::run(parts.clone(), Arc::clone(&options), state.clone(), stop.clone());
            tasks.spawn(watched("the watch", guard, state.clone()));
        }
        tasks.close();
        // Goes on behind the workers, to flush what they have read last.
        let flusher = flusher::run(Arc::clone(&options), parts, state.clone(), tasks.clone());
        let flusher = tokio::spawn(watched("the flusher", flusher, state));
        Self { state: watch, stop, give_up, tasks, flusher, claim: duties.claim }
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
        drop(self.claim);
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
