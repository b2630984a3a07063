//! The lease, shared by the tasks that collect and the one that sends.

use std::time::Duration;

use acuvim_control::Lease;
use tokio::sync::watch;

use crate::jobs::lease::JobLease;

/// How often the lease is renewed; several times within its length.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// The lease, or `None` while another process holds it.
pub(super) type Turn = watch::Receiver<Option<Lease>>;

/// Holds the lease, or waits for it; wakes the watchers when the holder changes.
pub(super) async fn keep(mut lease: JobLease, turn: &watch::Sender<Option<Lease>>) {
    loop {
        match lease.hold().await {
            Ok(lease) => {
                turn.send_if_modified(|held| {
                    let changed = held.map(|l| l.epoch) != lease.map(|l| l.epoch);
                    *held = lease;
                    changed
                });
            }
            // The tasks go on with the lease as last known: every write checks it in the database,
            // so with one that has expired they change nothing.
            Err(error) => tracing::debug!(%error, "the lease of notifications was not renewed"),
        }
        tokio::time::sleep(RENEW_INTERVAL).await;
    }
}

/// Waits until this process holds the lease.
pub(super) async fn held(turn: &mut Turn) -> Lease {
    loop {
        let lease = *turn.borrow_and_update();
        match lease {
            Some(lease) => return lease,
            None if turn.changed().await.is_err() => std::future::pending().await,
            None => {}
        }
    }
}
