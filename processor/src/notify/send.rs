//! From messages that wait to people: one attempt at a time for each notification, several at once.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use acuvim_control::{DueNotice, Lease};
use acuvim_schemas::api::{DeliveryState, NotificationKind};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use super::{NotifyOptions, email::Mailer, held, webhook::Caller};
use crate::Parts;

/// How often messages are looked for.
const LOOK: Duration = Duration::from_millis(250);

/// Attempts at a time.
const AT_ONCE: usize = 16;

/// Messages that are looked at in one go.
const PAGE: i64 = 200;

/// The longest time between two attempts.
const MOST_BETWEEN: TimeDelta = TimeDelta::hours(1);

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The receiver has it.
    Taken(String),
    /// It may work later.
    Later(String),
    /// It never will.
    Never(String),
}

/// The notifications that something is being sent for.
type Busy = Arc<Mutex<HashSet<Uuid>>>;

struct Senders {
    caller: Caller,
    mailer: Mailer,
}

/// Sends as long as the lease is held.
pub(super) async fn run(
    parts: &Parts,
    options: &Arc<NotifyOptions>,
    mut turn: watch::Receiver<Option<Lease>>,
) {
    let senders = match senders(options) {
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
        match parts.control.due_notices(Utc::now(), PAGE).await {
            Ok(due) => {
                for (id, notification) in due {
                    if attempts.len() >= AT_ONCE || !take(&busy, notification) {
                        continue;
                    }
                    let (parts, options) = (parts.clone(), Arc::clone(options));
                    let (senders, busy) = (Arc::clone(&senders), Arc::clone(&busy));
                    attempts.spawn(async move {
                        if let Err(error) = attempt(&parts, &options, &senders, id, lease).await {
                            tracing::debug!(%error, "a notification waits for the database");
                        }
                        busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&notification);
                    });
                }
            }
            Err(error) => tracing::debug!(%error, "notifications wait for the database"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn senders(options: &NotifyOptions) -> Result<Senders, String> {
    let caller = Caller::new(options.networks.clone(), options.timeout)?;
    let mailer = Mailer::new(options.smtp_url.as_deref(), &options.smtp_from, options.timeout)?;
    Ok(Senders { caller, mailer })
}

fn take(busy: &Busy, notification: Uuid) -> bool {
    busy.lock().unwrap_or_else(PoisonError::into_inner).insert(notification)
}

async fn attempt(
    parts: &Parts,
    options: &NotifyOptions,
    senders: &Senders,
    id: Uuid,
    lease: Lease,
) -> Result<(), acuvim_control::Error> {
    let now = Utc::now();
    // Should this process end in the middle, another tries again then.
    let timeout = TimeDelta::from_std(options.timeout).unwrap_or(TimeDelta::minutes(1));
    let again = now + timeout * 2;
    let Some(notice) = parts.control.claim_notice(id, lease, now, again).await? else {
        return Ok(());
    };
    let outcome = match notice.notification.body.kind {
        NotificationKind::Webhook => senders.caller.call(&notice, now).await,
        NotificationKind::Email => senders.mailer.send(&notice).await,
    };
    let (state, answer, at) = settled(&notice, outcome, options, Utc::now());
    metrics::counter!("acuvim_notices_total", "state" => state.as_str()).increment(1);
    if state == DeliveryState::Dead {
        let name = &notice.notification.body.name;
        tracing::warn!(%id, notification = name, answer, "a notification was given up");
    }
    parts.control.finish_notice(id, state, &answer, at).await
}

/// What becomes of a message after an attempt: pure.
fn settled(
    notice: &DueNotice,
    outcome: Attempt,
    options: &NotifyOptions,
    now: DateTime<Utc>,
) -> (DeliveryState, String, DateTime<Utc>) {
    match outcome {
        Attempt::Taken(answer) => (DeliveryState::Delivered, answer, now),
        Attempt::Never(answer) => (DeliveryState::Dead, answer, now),
        Attempt::Later(answer) => {
            let give_up = TimeDelta::from_std(options.give_up).unwrap_or(TimeDelta::days(1));
            let retry = TimeDelta::from_std(options.retry).unwrap_or(TimeDelta::seconds(5));
            let doubled = u32::try_from(notice.attempts.clamp(1, 20) - 1).unwrap_or(0);
            let wait = (retry * 2_i32.pow(doubled)).min(MOST_BETWEEN);
            let at = now + wait;
            if at > notice.created_at + give_up {
                return (DeliveryState::Dead, answer, now);
            }
            (DeliveryState::Waiting, answer, at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::tests::notice;
    use serde_json::json;

    #[test]
    fn attempts_become_rarer_and_end() {
        let options = NotifyOptions::default();
        let mut one = notice(json!({}), 1, 1);
        let (mut now, mut waits) = (one.created_at, Vec::new());
        let last = loop {
            let later = Attempt::Later("503".into());
            let (state, answer, at) = settled(&one, later, &options, now);
            assert_eq!(answer, "503");
            if state == DeliveryState::Dead {
                break at;
            }
            waits.push((at - now).num_seconds());
            (now, one.attempts) = (at, one.attempts + 1);
        };
        assert_eq!(waits.get(..5), Some(&[5, 10, 20, 40, 80][..]));
        assert!(waits.iter().all(|wait| *wait <= 3600) && waits.len() > 20, "{waits:?}");
        assert!(last - one.created_at <= TimeDelta::days(1));
        let never = settled(&one, Attempt::Never("no".into()), &options, now);
        assert_eq!(never.0, DeliveryState::Dead);
        let taken = settled(&one, Attempt::Taken("200".into()), &options, now);
        assert_eq!(taken.0, DeliveryState::Delivered);
    }
}
