//! Notifications: what happens, told to people by webhook and mail, beside the stream and never in
//! its way.
//!
//! One process does it at a time. It reads `acuvim.events` and notes in control, in one transaction
//! with its place in the log, what is to be told to whom; a message waits there until it was taken or
//! given up. So a message is made once, is sent at least once, and carries the same id every time.

mod address;
mod decide;
mod email;
mod message;
mod read;
mod send;
mod webhook;

use std::{sync::Arc, time::Duration};

use acuvim_control::{Lease, NOTIFICATIONS_LEASE};
use chrono::{TimeDelta, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Parts;

pub use address::{AllowedNetworks, refused_address};

/// How long the lease is held without being renewed, and how often it is.
const LEASE: TimeDelta = TimeDelta::seconds(20);
const RENEW: Duration = Duration::from_secs(5);

/// How notifications are sent.
#[derive(Debug, Clone)]
pub struct NotifyOptions {
    /// Private networks that webhooks may reach.
    pub networks: AllowedNetworks,
    /// The mail server, as smtp://user:password@host:587?tls=required; none: no mails.
    pub smtp_url: Option<String>,
    /// Whom mails are from.
    pub smtp_from: String,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long after a first attempt the next is made; from then on twice as long, up to an hour.
    pub retry: Duration,
    /// How long a message is tried.
    pub give_up: Duration,
}

impl NotifyOptions {
    /// Whether mails can be sent with what is set.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_mail(&self) -> Result<(), String> {
        let url = self.smtp_url.as_deref();
        email::Mailer::new(url, &self.smtp_from, self.timeout).map(|_| ())
    }
}

impl Default for NotifyOptions {
    fn default() -> Self {
        Self {
            networks: AllowedNetworks::default(),
            smtp_url: None,
            smtp_from: "acuvim@localhost".to_owned(),
            timeout: Duration::from_secs(10),
            retry: Duration::from_secs(5),
            give_up: Duration::from_secs(24 * 3600),
        }
    }
}

/// Notes and sends until the end; several processes take turns.
pub(crate) async fn run(parts: Parts, options: Arc<NotifyOptions>, stop: CancellationToken) {
    let holder = uuid::Uuid::new_v4().to_string();
    let (turn, held) = watch::channel(None);
    let work = async {
        tokio::join!(
            hold(&parts, &holder, &turn),
            read::run(&parts, held.clone()),
            send::run(&parts, &options, held.clone()),
        )
    };
    let _: Option<((), (), ())> = stop.run_until_cancelled(Box::pin(work)).await;
    // Another goes on at once.
    let _ = parts.control.drop_lease(NOTIFICATIONS_LEASE, &holder, Utc::now()).await;
}

/// Holds the lease, or waits for it.
async fn hold(parts: &Parts, holder: &str, turn: &watch::Sender<Option<Lease>>) {
    loop {
        let held = parts.control.hold_lease(NOTIFICATIONS_LEASE, holder, Utc::now(), LEASE).await;
        match held {
            Ok(lease) => {
                turn.send_if_modified(|held| {
                    let changed = held.map(|l| l.epoch) != lease.map(|l| l.epoch);
                    *held = lease;
                    changed
                });
            }
            // Every write checks the lease: one that ran out meanwhile does nothing.
            Err(error) => tracing::debug!(%error, "notifications wait for the database"),
        }
        tokio::time::sleep(RENEW).await;
    }
}

/// Waits until the lease is held.
async fn held(turn: &mut watch::Receiver<Option<Lease>>) -> Lease {
    loop {
        let lease = *turn.borrow_and_update();
        match lease {
            Some(lease) => return lease,
            None if turn.changed().await.is_err() => std::future::pending().await,
            None => {}
        }
    }
}
