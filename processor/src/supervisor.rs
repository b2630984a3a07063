//! Starts and ends the tasks of the partitions: a writer for those that this process has claimed,
//! and a follower for the others where queries are served.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    dependencies::Dependencies,
    fatal::Fatal,
    options::ProcessorOptions,
    partition::{Context, Follower, StopReason, Writer},
    rule_watch::RuleWatch,
    state::{StateSender, StateWatch},
};

/// How long to wait before a partition is started again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What this process does with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// Its rows and changes are stored by this process.
    Write,
    /// They are stored by another process; this one keeps the rows in its tail for queries.
    Follow,
}

/// Starts and ends the tasks of the partitions.
pub(crate) struct Supervisor {
    pub options: Arc<ProcessorOptions>,
    pub dependencies: Dependencies,
    pub state: StateSender,
    /// The partitions that this process has claimed.
    pub owned: watch::Receiver<BTreeSet<u32>>,
    /// Whether the others are followed.
    pub follow_others: bool,
    /// Writers read on to the log's end and end; followers end at once.
    pub stop: CancellationToken,
    /// All tasks end at once.
    pub give_up: CancellationToken,
    pub rules: RuleWatch,
}

/// Waits until the owned partitions change; for ever if they can't.
async fn changed(owned: &mut watch::Receiver<BTreeSet<u32>>) {
    if owned.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until another process has overtaken a partition.
async fn overtaken(mut state: StateWatch) {
    if state.wait_for(|state| !state.overtaken.is_empty()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The tasks of the partitions at one moment.
#[derive(Default)]
struct PartitionTasks {
    running: BTreeMap<u32, Running>,
    tasks: JoinSet<(u32, StopReason)>,
    /// The partitions that have a tail.
    with_tail: BTreeSet<u32>,
}

struct Running {
    duty: Duty,
    give_up: CancellationToken,
}

impl Supervisor {
    /// Runs until `stop` and until every task has ended then.
    pub async fn run(mut self) {
        let mut tasks = PartitionTasks::default();
        loop {
            let arranged = self.give_up.clone().run_until_cancelled_owned(self.arrange(&mut tasks));
            let pause = match arranged.await {
                None => break,
                Some(true) => Duration::MAX,
                Some(false) => RETRY_AFTER,
            };
            if self.state.has_failed() {
                break;
            }
            tokio::select! {
                () = changed(&mut self.owned) => {}
                () = overtaken(self.state.watch()) => self.end_overtaken(&tasks),
                Some(ended) = tasks.tasks.join_next() => self.ended(&mut tasks, ended).await,
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
        }
        self.stop.cancelled().await;
        while let Some(ended) = tasks.tasks.join_next().await {
            self.ended(&mut tasks, ended).await;
        }
    }

    /// Ends and starts tasks until each partition has the one that it should have; false if the
    /// lake is away and it must be tried again.
    async fn arrange(&mut self, tasks: &mut PartitionTasks) -> bool {
        let wanted = self.wanted();
        // Tasks end before others start, so that a partition never has a writer and a follower,
        // which would both push to its tail.
        self.end_others(tasks, &wanted).await;
        let unwanted: Vec<u32> =
            tasks.with_tail.iter().filter(|p| !wanted.contains_key(p)).copied().collect();
        for partition in unwanted {
            self.dependencies.lake.unfollow(partition);
            tasks.with_tail.remove(&partition);
        }
        let all = 0..self.dependencies.log.partitions();
        all.filter(|p| !wanted.contains_key(p)).for_each(|p| self.state.caught_up(p));
        if !self.begin_tails(tasks, &wanted).await {
            return false;
        }
        for (partition, duty) in wanted {
            if !tasks.running.contains_key(&partition) {
                self.start(tasks, partition, duty);
            }
        }
        true
    }

    /// The duty for each partition that this process has one for.
    fn wanted(&mut self) -> BTreeMap<u32, Duty> {
        let owned = self.owned.borrow_and_update().clone();
        let all = (0..self.dependencies.log.partitions()).filter(|_| self.follow_others);
        let mut wanted: BTreeMap<u32, Duty> = all.map(|p| (p, Duty::Follow)).collect();
        // After the followers, because a partition that is owned is not followed.
        wanted.extend(owned.into_iter().map(|p| (p, Duty::Write)));
        wanted
    }

    /// Begins an empty tail, behind what the tables have, for each partition that is to have a task
    /// and has none; false if the lake is away.
    async fn begin_tails(&self, tasks: &mut PartitionTasks, wanted: &BTreeMap<u32, Duty>) -> bool {
        let new: BTreeSet<u32> =
            wanted.keys().filter(|p| !tasks.with_tail.contains(p)).copied().collect();
        if new.is_empty() {
            return true;
        }
        new.iter().for_each(|partition| self.state.catching_up(*partition));
        if let Err(error) = self.dependencies.lake.follow(&new).await {
            if error.kind() == acuvim_lakehouse::ErrorKind::Internal {
                self.state.fatal(Fatal::failed(error));
            } else {
                self.state.follow(Some(error.to_string()));
            }
            return false;
        }
        self.state.follow(None);
        tasks.with_tail.extend(&new);
        true
    }

    /// Ends the tasks whose duty has changed, and waits until they have ended.
    async fn end_others(&self, tasks: &mut PartitionTasks, wanted: &BTreeMap<u32, Duty>) {
        let mut ending = BTreeSet::new();
        for (partition, running) in &tasks.running {
            if wanted.get(partition) != Some(&running.duty) {
                self.give_up_partition(*partition, running);
                ending.insert(*partition);
            }
        }
        while ending.iter().any(|p| tasks.running.contains_key(p)) {
            let Some(ended) = tasks.tasks.join_next().await else { break };
            self.note_end(tasks, ended);
        }
    }

    /// Ends the tasks of partitions whose rows another process has committed; they are started
    /// again, behind its commit.
    fn end_overtaken(&self, tasks: &PartitionTasks) {
        for partition in self.state.take_overtaken() {
            if let Some(running) = tasks.running.get(&partition) {
                self.give_up_partition(partition, running);
            }
        }
    }

    /// Ends a task at once. The lake gives up the partition first, so that no flush commits the
    /// rows that the task leaves in the tail.
    fn give_up_partition(&self, partition: u32, running: &Running) {
        self.dependencies.lake.own(partition, false);
        running.give_up.cancel();
    }

    fn start(&self, tasks: &mut PartitionTasks, partition: u32, duty: Duty) {
        let own = duty == Duty::Write;
        if own && self.options.shared {
            tracing::info!(partition, "takes the partition over");
        }
        self.dependencies.lake.own(partition, own);
        let give_up = self.give_up.child_token();
        let context = Arc::new(Context {
            partition,
            dependencies: self.dependencies.clone(),
            options: Arc::clone(&self.options),
            state: self.state.clone(),
        });
        let (stop, cancelled) = (self.stop.clone(), give_up.clone());
        match duty {
            Duty::Write => {
                let work = Writer::run(context, self.rules.clone(), stop, cancelled);
                tasks.tasks.spawn(async move { (partition, work.await) });
            }
            Duty::Follow => {
                let work = Follower::run(context, stop, cancelled);
                tasks.tasks.spawn(async move { (partition, work.await) });
            }
        }
        tasks.running.insert(partition, Running { duty, give_up });
    }

    async fn ended(&self, tasks: &mut PartitionTasks, ended: Result<(u32, StopReason), JoinError>) {
        let start_again = self.note_end(tasks, ended);
        if start_again && !self.stop.is_cancelled() {
            // Two processes that overtake each other must not do so in a tight loop.
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Takes note of a task that ended; true if it has to be started again.
    fn note_end(
        &self,
        tasks: &mut PartitionTasks,
        ended: Result<(u32, StopReason), JoinError>,
    ) -> bool {
        let (partition, reason) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                self.state.fatal(Fatal::Broken(format!("the task of a partition ended: {error}")));
                return false;
            }
        };
        tasks.running.remove(&partition);
        // The next task begins with a new tail. The rows that this one has left were neither
        // evaluated nor counted if it only followed.
        tasks.with_tail.remove(&partition);
        // Other tasks may be in the same trouble; they report it again.
        self.state.clear_partition_troubles();
        match reason {
            StopReason::Requested => false,
            StopReason::Overtaken => {
                self.state.overtaken(partition, self.options.shared);
                true
            }
            StopReason::Fatal(fatal) => {
                self.state.fatal(fatal);
                false
            }
        }
    }
}
