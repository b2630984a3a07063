//! Notifications: messages about events for people, by webhook and mail, in two steps.
//!
//! `collect` reads `acuvim.events` and stores messages in control, in one transaction with its
//! position in the log. `send` sends the stored messages until each is accepted or given up. A
//! message is therefore created once, sent at least once, and carries the same id at every attempt.

mod attempt;
mod collect;
mod email;
mod message;
mod select;
mod send;
mod turn;
mod webhook;

use std::sync::Arc;

use tokio::sync::watch;

use super::lease::JobLease;
use crate::{dependencies::Dependencies, options::NotifyOptions};

/// Collects and sends while the lease is held.
pub(super) async fn run(dependencies: Dependencies, options: Arc<NotifyOptions>, lease: JobLease) {
    let (sender, turn) = watch::channel(None);
    let _: ((), (), ()) = tokio::join!(
        turn::keep(lease, &sender),
        collect::run(&dependencies, turn.clone()),
        send::run(&dependencies, &options, turn.clone()),
    );
}
