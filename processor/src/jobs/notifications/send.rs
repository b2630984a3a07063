//! Sends stored messages: one attempt at a time for each notification, several notifications at
//! once, so that a slow receiver holds up only its own messages.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use acuvim_control::{DueNotice, Lease};
use acuvim_model::{DeliveryState, NotificationKind};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    attempt::{Attempt, outcome},
    email::Mailer,
    turn::{Turn, held},
    webhook::Caller,
};
use crate::{dependencies::Dependencies, options::NotifyOptions};

/// How often control is asked for messages that are due.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The most attempts at a time.
const MAX_ATTEMPTS: usize = 16;

/// The most due messages that are read at a time.
const PAGE: i64 = 200;

/// The notifications that a message is being sent for.
type Busy = Arc<Mutex<HashSet<Uuid>>>;

struct Senders {
    dependencies: Dependencies,
    options: Arc<NotifyOptions>,
    caller: Caller,
    mailer: Mailer,
}

/// Sends while the lease is held.
pub(super) async fn run(dependencies: &Dependencies, options: &Arc<NotifyOptions>, mut turn: Turn) {
    let senders = match Senders::new(dependencies, options) {
        Ok(senders) => Arc::new(senders),
        Err(error) => {
            tracing::error!(%error, "notifications can't be sent");
            return;
        }
    };
    let (busy, mut attempts) = (Busy::default(), JoinSet::new());
    loop {
        let lease = held(&mut turn).await;
        while attempts.try_join_next().is_some() {}
        match dependencies.control.due_notices(Utc::now(), PAGE).await {
            Ok(due) => {
                for (id, notification) in due {
                    // It stays due, and is found again by the next poll.
                    if attempts.len() >= MAX_ATTEMPTS || !reserve(&busy, notification) {
                        continue;
                    }
                    let (senders, busy) = (Arc::clone(&senders), Arc::clone(&busy));
                    attempts.spawn(async move {
                        if let Err(error) = senders.attempt(id, lease).await {
                            tracing::debug!(%error, "a notification waits for the database");
                        }
                        release(&busy, notification);
                    });
                }
            }
            Err(error) => tracing::debug!(%error, "notifications wait for the database"),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn reserve(busy: &Busy, notification: Uuid) -> bool {
    busy.lock().unwrap_or_else(PoisonError::into_inner).insert(notification)
}

fn release(busy: &Busy, notification: Uuid) {
    busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&notification);
}

impl Senders {
    fn new(dependencies: &Dependencies, options: &Arc<NotifyOptions>) -> Result<Self, String> {
        let smtp_url = options.smtp_url.as_deref();
        Ok(Self {
            dependencies: dependencies.clone(),
            options: Arc::clone(options),
            caller: Caller::new(options.networks.clone(), options.timeout)?,
            mailer: Mailer::new(smtp_url, &options.smtp_from, options.timeout)?,
        })
    }

    async fn attempt(&self, id: Uuid, lease: Lease) -> Result<(), acuvim_control::Error> {
        let control = &self.dependencies.control;
        let now = Utc::now();
        // Should this process end before the outcome is stored, another tries again at this time.
        let timeout = TimeDelta::from_std(self.options.timeout).unwrap_or(TimeDelta::minutes(1));
        let retry_at = now + timeout * 2;
        let Some(notice) = control.claim_notice(id, lease, now, retry_at).await? else {
            return Ok(());
        };
        let attempt = self.send(&notice, now).await;
        let after = outcome(&notice, attempt, &self.options, Utc::now());
        metrics::counter!("acuvim_notices_total", "state" => after.state.as_str()).increment(1);
        if after.state == DeliveryState::Dead {
            let name = &notice.notification.body.name;
            let answer = &after.answer;
            tracing::warn!(%id, notification = name, answer, "a notification was given up");
        }
        control.finish_notice(id, after.state, &after.answer, after.at).await
    }

    async fn send(&self, notice: &DueNotice, now: DateTime<Utc>) -> Attempt {
        match notice.notification.body.kind {
            NotificationKind::Webhook => self.caller.call(notice, now).await,
            NotificationKind::Email => self.mailer.send(notice).await,
        }
    }
}
