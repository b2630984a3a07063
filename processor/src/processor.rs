//! Starts and stops the tasks of the stream.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use acuvim_log::Claim;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    catch_up,
    dependencies::Dependencies,
    fatal::Fatal,
    flusher,
    jobs::Jobs,
    meters,
    options::ProcessorOptions,
    rule_watch,
    state::{StateSender, StateWatch},
    supervisor::Supervisor,
};

/// What this process does for the stream.
#[derive(Debug)]
pub struct Duties {
    /// The claim on the partitions that it writes; `None` if it writes none.
    pub claim: Option<Claim>,
    /// Whether it follows all other partitions, so that queries see their tail.
    pub follow: bool,
}

/// The running stream.
#[derive(Debug)]
pub struct Processor {
    state: StateWatch,
    stop: CancellationToken,
    give_up: CancellationToken,
    tasks: TaskTracker,
    flusher: JoinHandle<()>,
    /// Given up last, so that no other process takes a partition over that is still being flushed.
    claim: Option<Claim>,
}

impl Processor {
    /// Starts to process the partitions that the duties name.
    #[must_use]
    pub fn start(options: ProcessorOptions, dependencies: Dependencies, duties: Duties) -> Self {
        let options = Arc::new(options);
        let owned = match &duties.claim {
            Some(claim) => claim.owned(),
            None => watch::Sender::new(BTreeSet::new()).subscribe(),
        };
        let first_partitions: Vec<u32> = if duties.follow {
            (0..dependencies.log.partitions()).collect()
        } else {
            owned.borrow().iter().copied().collect()
        };
        let tasks = Tasks {
            options,
            dependencies,
            state: StateSender::new(first_partitions),
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        tasks.spawn_stream(owned, &duties);
        if let Some(claim) = &duties.claim {
            tasks.watch_claim(claim);
            tasks.spawn_jobs();
        }
        // A tracker that is not closed is waited for for ever.
        tasks.tracker.close();
        let flusher = tasks.spawn_flusher();
        let Tasks { state, stop, give_up, tracker, .. } = tasks;
        Self { state: state.watch(), stop, give_up, tasks: tracker, flusher, claim: duties.claim }
    }

    /// The state of the stream.
    #[must_use]
    pub fn state(&self) -> StateWatch {
        self.state.clone()
    }

    /// Reads what the log has at this moment, flushes and commits it; returns when that is done or
    /// the time is over. Reading may take a quarter of the time. Losing nothing does not depend on
    /// any of it: the next start goes on from the stored offsets.
    pub async fn stop(self, within: Duration) {
        self.stop.cancel();
        // The rest of the time is for the flush, whose commit must not be cut off.
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

/// The tasks of a processor that is being started.
struct Tasks {
    options: Arc<ProcessorOptions>,
    dependencies: Dependencies,
    state: StateSender,
    stop: CancellationToken,
    give_up: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// The partitions, and what they and the queries of this process need to be kept up to date.
    fn spawn_stream(&self, owned: watch::Receiver<BTreeSet<u32>>, duties: &Duties) {
        let (rules_sender, rules) = watch::channel(None);
        let supervisor = Supervisor {
            rules,
            options: Arc::clone(&self.options),
            dependencies: self.dependencies.clone(),
            state: self.state.clone(),
            owned,
            follow_others: duties.follow,
            stop: self.stop.clone(),
            give_up: self.give_up.clone(),
        };
        self.spawn("the supervisor", supervisor.run());
        if self.options.shared {
            let (lake, state) = (Arc::clone(&self.dependencies.lake), self.state.clone());
            let follow = catch_up::run(lake, state, self.stop.clone(), self.give_up.clone());
            self.spawn("following other processes' commits", follow);
        }
        let interval = self.options.rollup_interval;
        let meters = meters::run(self.dependencies.clone(), interval, self.stop.clone());
        self.spawn("reading the meter terms", meters);
        if duties.claim.is_some() {
            let control = self.dependencies.control.clone();
            let max_ahead = self.options.limits.max_ahead;
            let read = rule_watch::run(control, max_ahead, rules_sender, self.state.clone());
            self.spawn("reading the rules", read);
        }
    }

    /// Reports it in the state while the claim can't be renewed.
    fn watch_claim(&self, claim: &Claim) {
        let (mut trouble, state) = (claim.trouble(), self.state.clone());
        self.tracker.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            while trouble.changed().await.is_ok() {
                state.claim(trouble.borrow_and_update().clone());
            }
        }));
    }

    fn spawn_jobs(&self) {
        let jobs = Jobs::new(&self.options, &self.dependencies, &self.state, &self.stop);
        for (name, job) in jobs.all() {
            self.spawn(name, job);
        }
    }

    /// The flusher is not one of the tracked tasks: it waits for them, to flush what they read
    /// last.
    fn spawn_flusher(&self) -> JoinHandle<()> {
        let (dependencies, state) = (self.dependencies.clone(), self.state.clone());
        let flusher =
            flusher::run(Arc::clone(&self.options), dependencies, state, self.tracker.clone());
        tokio::spawn(watched("the flusher", flusher, self.state.clone()))
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(watched(name, task, self.state.clone()));
    }
}

/// Runs a task in a task of its own. Its panic stops the stream: without the task the stream would
/// only seem to work.
async fn watched(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
    state: StateSender,
) {
    if let Err(error) = tokio::spawn(task).await {
        state.fatal(Fatal::Broken(format!("{name} ended: {error}")));
    }
}
