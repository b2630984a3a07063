//! Which partitions have a worker, and of which kind: follows the claim on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Fatal, Parts, ProcessorOptions,
    judging::JudgingWatch,
    state::{StateSender, StateWatch},
    worker::{Ended, Worker},
};

/// How long to wait before a partition is begun again.
const AGAIN: Duration = Duration::from_millis(500);

/// What this process does with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Its rows and changes are this process's to store.
    Write,
    /// Its rows are kept in the tail for queries; another process stores them.
    Follow,
}

/// See the module.
pub(crate) struct Supervisor {
    pub options: Arc<ProcessorOptions>,
    pub parts: Parts,
    pub state: StateSender,
    /// The partitions that are this process's to write.
    pub owned: watch::Receiver<BTreeSet<u32>>,
    /// Whether the others are followed.
    pub follow_others: bool,
    /// Workers read what the log has and end.
    pub stop: CancellationToken,
    /// Workers end at once.
    pub give_up: CancellationToken,
    /// What judging goes by.
    pub judging: JudgingWatch,
}

/// Waits for a change of what is owned; for ever if there can be none.
async fn changed(owned: &mut watch::Receiver<BTreeSet<u32>>) {
    if owned.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until a partition is to begin anew.
async fn overtaken(mut state: StateWatch) {
    if state.wait_for(|state| !state.overtaken.is_empty()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The workers at this moment.
#[derive(Default)]
struct Workers {
    running: BTreeMap<u32, (Duty, CancellationToken)>,
    tasks: JoinSet<(u32, Ended)>,
    followed: BTreeSet<u32>,
}

impl Supervisor {
    /// Works until told to stop and every worker has ended.
    pub async fn run(mut self) {
        let mut workers = Workers::default();
        loop {
            let arranged =
                self.give_up.clone().run_until_cancelled_owned(self.arrange(&mut workers));
            let pause = match arranged.await {
                None => break,
                Some(true) => Duration::MAX,
                Some(false) => AGAIN,
            };
            if self.state.has_failed() {
                break;
            }
            tokio::select! {
                () = changed(&mut self.owned) => {}
                () = overtaken(self.state.watch()) => self.end_overtaken(&workers),
                Some(ended) = workers.tasks.join_next() => self.ended(&mut workers, ended).await,
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
        }
        self.stop.cancelled().await;
        while let Some(ended) = workers.tasks.join_next().await {
            self.ended(&mut workers, ended).await;
        }
    }

    /// Ends and starts workers until each partition has the one that it is to have; false if the
    /// lake is away and it must be tried again.
    async fn arrange(&mut self, workers: &mut Workers) -> bool {
        let wanted = self.wanted();
        self.end_others(workers, &wanted).await;
        let strangers: Vec<u32> =
            workers.followed.iter().filter(|p| !wanted.contains_key(p)).copied().collect();
        for partition in strangers {
            self.parts.lake.unfollow(partition);
            workers.followed.remove(&partition);
        }
        let all = 0..self.parts.log.partitions();
        all.filter(|p| !wanted.contains_key(p)).for_each(|p| self.state.caught_up(p));
        let new: BTreeSet<u32> =
            wanted.keys().filter(|p| !workers.followed.contains(p)).copied().collect();
        if !new.is_empty() {
            new.iter().for_each(|partition| self.state.catching_up(*partition));
            if let Err(error) = self.parts.lake.follow(&new).await {
                if error.kind() == acuvim_lakehouse::ErrorKind::Internal {
                    self.state.fatal(Fatal::Broken(error.to_string()));
                } else {
                    self.state.follow(Some(error.to_string()));
                }
                return false;
            }
            self.state.follow(None);
            workers.followed.extend(&new);
        }
        for (partition, duty) in wanted {
            if !workers.running.contains_key(&partition) {
                self.start(workers, partition, duty);
            }
        }
        true
    }

    fn wanted(&mut self) -> BTreeMap<u32, Duty> {
        let owned = self.owned.borrow_and_update().clone();
        let all = (0..self.parts.log.partitions()).filter(|_| self.follow_others);
        let mut wanted: BTreeMap<u32, Duty> = all.map(|p| (p, Duty::Follow)).collect();
        wanted.extend(owned.into_iter().map(|p| (p, Duty::Write)));
        wanted
    }

    /// Ends the workers whose duty is another now, and waits until they have.
    async fn end_others(&self, workers: &mut Workers, wanted: &BTreeMap<u32, Duty>) {
        let mut ending = BTreeSet::new();
        for (partition, (duty, give_up)) in &workers.running {
            if wanted.get(partition) != Some(duty) {
                self.parts.lake.own(*partition, false);
                give_up.cancel();
                ending.insert(*partition);
            }
        }
        while ending.iter().any(|p| workers.running.contains_key(p)) {
            let Some(ended) = workers.tasks.join_next().await else { break };
            self.note_end(workers, ended);
        }
    }

    /// Ends the workers of partitions that another process has moved on in the lake; they begin anew
    /// behind it.
    fn end_overtaken(&self, workers: &Workers) {
        for partition in self.state.take_overtaken() {
            if let Some((_, give_up)) = workers.running.get(&partition) {
                self.parts.lake.own(partition, false);
                give_up.cancel();
            }
        }
    }

    fn start(&self, workers: &mut Workers, partition: u32, duty: Duty) {
        let own = duty == Duty::Write;
        if own && self.options.shared {
            tracing::info!(partition, "takes the partition over");
        }
        self.parts.lake.own(partition, own);
        let give_up = self.give_up.child_token();
        let (state, judging) = (self.state.clone(), self.judging.clone());
        let worker = Worker::new(partition, duty, &self.options, &self.parts, state, judging);
        let work = worker.run(self.stop.clone(), give_up.clone());
        workers.tasks.spawn(async move { (partition, work.await) });
        workers.running.insert(partition, (duty, give_up));
    }

    async fn ended(
        &self,
        workers: &mut Workers,
        ended: Result<(u32, Ended), tokio::task::JoinError>,
    ) {
        let again = self.note_end(workers, ended);
        if again && !self.stop.is_cancelled() {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Whether the worker is to be begun again.
    fn note_end(
        &self,
        workers: &mut Workers,
        ended: Result<(u32, Ended), tokio::task::JoinError>,
    ) -> bool {
        match ended {
            Ok((partition, ended)) => {
                workers.running.remove(&partition);
                // Whoever comes next begins at what the tables have: what this one has left in the tail
                // was neither judged nor counted by it, if it only followed.
                workers.followed.remove(&partition);
                // What it waited for others still wait for, and say so again.
                self.state.forget_troubles();
                match ended {
                    Ended::Stopped => false,
                    Ended::Overtaken => {
                        self.state.overtaken(partition, self.options.shared);
                        true
                    }
                    Ended::Fatal(fatal) => {
                        self.state.fatal(fatal);
                        false
                    }
                }
            }
            Err(error) => {
                self.state.fatal(Fatal::Broken(format!("a worker ended: {error}")));
                false
            }
        }
    }
}
