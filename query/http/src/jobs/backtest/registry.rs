//! The backtests of this process: started, followed and cancelled by those who asked for them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use acuvim_model::{Backtest, BacktestResult, BacktestState};
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    error::BacktestError,
    request::{BacktestParts, NewBacktest},
    run::Run,
};

/// Backtests that are remembered.
const KEPT: usize = 32;

/// Backtests that run or wait.
pub(crate) const WAITING: usize = 8;

/// As many backtests run or wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyBacktests;

/// All backtests of this process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Backtests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: BacktestParts,
    jobs: Mutex<VecDeque<Job>>,
    /// Held by the one that runs.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Job {
    owner: Uuid,
    cancel: CancellationToken,
    shown: Backtest,
}

impl Backtests {
    pub fn new(parts: BacktestParts) -> Self {
        Self(Arc::new(Inner { parts, jobs: Mutex::default(), turn: tokio::sync::Mutex::default() }))
    }

    /// Starts a backtest, which waits for those before it.
    pub fn start(
        &self,
        new: NewBacktest,
        now: DateTime<Utc>,
    ) -> Result<Backtest, TooManyBacktests> {
        let shown = Backtest {
            id: Uuid::now_v7(),
            state: BacktestState::Running,
            progress: 0.0,
            error: None,
            created_at: now,
            result: None,
        };
        let cancel = CancellationToken::new();
        // Added before it is spawned: its end must find it.
        self.add(Job { owner: new.owner, cancel: cancel.clone(), shown: shown.clone() })?;
        let work = self.clone().work(shown.id, new);
        self.0.parts.threads.spawn(cancel.run_until_cancelled_owned(work));
        Ok(shown)
    }

    /// A backtest of this user or key.
    pub fn get(&self, id: Uuid, owner: Uuid) -> Option<Backtest> {
        let jobs = self.jobs();
        jobs.iter().find(|j| j.shown.id == id && j.owner == owner).map(|j| j.shown.clone())
    }

    /// Cancels a backtest of this user or key; false if there is none.
    pub fn cancel(&self, id: Uuid, owner: Uuid) -> bool {
        let mut jobs = self.jobs();
        let job = jobs.iter_mut().find(|j| j.shown.id == id && j.owner == owner);
        let Some(job) = job else { return false };
        job.cancel.cancel();
        if job.shown.state == BacktestState::Running {
            job.shown.state = BacktestState::Cancelled;
        }
        true
    }

    fn add(&self, job: Job) -> Result<(), TooManyBacktests> {
        let mut jobs = self.jobs();
        let running = jobs.iter().filter(|j| j.shown.state == BacktestState::Running).count();
        if running >= WAITING {
            return Err(TooManyBacktests);
        }
        // Only backtests that have ended make room.
        while jobs.len() >= KEPT
            && let Some(at) = jobs.iter().position(|j| j.shown.state != BacktestState::Running)
        {
            jobs.remove(at);
        }
        jobs.push_back(job);
        Ok(())
    }

    async fn work(self, id: Uuid, new: NewBacktest) {
        // One at a time: each takes the memory and the disk of many queries.
        let _turn = self.0.turn.lock().await;
        let begun = Instant::now();
        let progress = |done| self.change(id, |shown| shown.progress = done);
        let run = Run { parts: &self.0.parts, new: &new, progress: &progress };
        let result = run.result().await;
        self.change(id, |shown| self.end(shown, result, begun));
    }

    fn end(
        &self,
        shown: &mut Backtest,
        result: Result<BacktestResult, BacktestError>,
        begun: Instant,
    ) {
        match result {
            Ok(mut result) => {
                result.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                (shown.state, shown.progress) = (BacktestState::Done, 1.0);
                shown.result = Some(result);
            }
            Err(error) => {
                shown.state = BacktestState::Failed;
                shown.error = Some((self.0.parts.describe)(error));
            }
        }
    }

    fn change(&self, id: Uuid, change: impl FnOnce(&mut Backtest)) {
        let mut jobs = self.jobs();
        if let Some(job) = jobs.iter_mut().find(|j| j.shown.id == id)
            && job.shown.state == BacktestState::Running
        {
            change(&mut job.shown);
        }
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
