//! What an attempt to send a message came to, and what follows from it. Pure.

use acuvim_control::DueNotice;
use acuvim_model::DeliveryState;
use chrono::{DateTime, TimeDelta, Utc};

use crate::options::NotifyOptions;

/// The longest wait between two attempts.
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(1);

/// The result of one attempt, with the receiver's answer or the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The receiver has accepted the message.
    Accepted(String),
    /// A later attempt may succeed.
    Retry(String),
    /// No attempt can succeed.
    Failed(String),
}

/// The state of a message after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub state: DeliveryState,
    /// The receiver's answer or the error.
    pub answer: String,
    /// When the message ended, or when it is tried again.
    pub at: DateTime<Utc>,
}

/// What follows from an attempt. Waits double with each attempt, until the message is given up.
pub(super) fn outcome(
    notice: &DueNotice,
    attempt: Attempt,
    options: &NotifyOptions,
    now: DateTime<Utc>,
) -> Outcome {
    match attempt {
        Attempt::Accepted(answer) => Outcome { state: DeliveryState::Delivered, answer, at: now },
        Attempt::Failed(answer) => Outcome { state: DeliveryState::Dead, answer, at: now },
        Attempt::Retry(answer) => {
            let give_up = TimeDelta::from_std(options.give_up).unwrap_or(TimeDelta::days(1));
            let retry = TimeDelta::from_std(options.retry).unwrap_or(TimeDelta::seconds(5));
            let doublings = u32::try_from(notice.attempts.clamp(1, 20) - 1).unwrap_or(0);
            let wait = (retry * 2_i32.pow(doublings)).min(LONGEST_WAIT);
            let at = now + wait;
            // An attempt that would come after the end is not waited for, so that people see at
            // once that the message is dead.
            if at > notice.created_at + give_up {
                return Outcome { state: DeliveryState::Dead, answer, at: now };
            }
            Outcome { state: DeliveryState::Waiting, answer, at }
        }
    }
}

#[cfg(test)]
mod tests;
