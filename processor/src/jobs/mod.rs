//! Background work that only one process may do at a time, each job under its lease.
//!
//! A job is a module with a `run` function that takes its [`JobLease`](lease::JobLease) and never
//! returns; it is added in [`Jobs::all`]. The stop signal drops it at any await, so another process
//! must be able to go on from the stored state at any moment.

mod lease;
mod notifications;
mod outbox;
mod rollups;
mod upkeep;
mod watchdog;

use std::sync::Arc;

use chrono::TimeDelta;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{dependencies::Dependencies, options::ProcessorOptions, state::StateSender};
use lease::{LeaseTerms, Leased};

/// Renewed by the delivery itself, so it need not last long.
const OUTBOX: LeaseTerms = LeaseTerms {
    name: acuvim_control::OUTBOX_LEASE,
    length: TimeDelta::seconds(15),
    renew_after: TimeDelta::seconds(5),
};

const NOTIFICATIONS: LeaseTerms = LeaseTerms {
    name: acuvim_control::NOTIFICATIONS_LEASE,
    length: TimeDelta::seconds(20),
    renew_after: TimeDelta::zero(),
};

/// Held for compaction and rollups alike, so that one process looks after the tables.
const UPKEEP: LeaseTerms =
    LeaseTerms { name: "upkeep", length: TimeDelta::seconds(60), renew_after: TimeDelta::zero() };

/// The name is older than the module's: processes of two versions must agree on it.
const WATCHDOG: LeaseTerms =
    LeaseTerms { name: "guard", length: TimeDelta::seconds(90), renew_after: TimeDelta::zero() };

/// The jobs of this process.
pub(crate) struct Jobs {
    options: Arc<ProcessorOptions>,
    dependencies: Dependencies,
    state: StateSender,
    leased: Leased,
}

impl Jobs {
    /// The jobs run until `stop`.
    pub fn new(
        options: &Arc<ProcessorOptions>,
        dependencies: &Dependencies,
        state: &StateSender,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            options: Arc::clone(options),
            dependencies: dependencies.clone(),
            state: state.clone(),
            leased: Leased::new(dependencies.control.clone(), &dependencies.holder, stop.clone()),
        }
    }

    /// The jobs, each with a name for the error in case it panics.
    pub fn all(&self) -> Vec<(&'static str, BoxFuture<'static, ()>)> {
        let options = || Arc::clone(&self.options);
        let dependencies = || self.dependencies.clone();
        let state = || self.state.clone();
        let notify = Arc::clone(&self.options.notify);
        let interval = self.options.flush.interval;
        vec![
            (
                "the upkeep",
                self.leased.run(UPKEEP, |lease| upkeep::run(options(), dependencies(), lease)),
            ),
            (
                "the rollups",
                self.leased.run(UPKEEP, |lease| rollups::run(options(), dependencies(), lease)),
            ),
            (
                "the outbox",
                self.leased
                    .run(OUTBOX, |lease| outbox::run(dependencies(), state(), interval, lease)),
            ),
            (
                "the notifications",
                self.leased
                    .run(NOTIFICATIONS, |lease| notifications::run(dependencies(), notify, lease)),
            ),
            (
                "the watchdog",
                self.leased.run(WATCHDOG, |lease| {
                    watchdog::run(options(), dependencies(), state(), lease)
                }),
            ),
        ]
    }
}
