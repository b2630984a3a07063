//! State transitions of a single device in a rollout.

use acuvim_model::{CommandStatus, UpdateState};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    member::{RolloutMember, RunningRollout},
    version::{fell_back, runs},
};

/// Heartbeats that a confirmed device may miss before it counts as silent; as for its status.
const MISSED_BEATS: i64 = 5;

/// Seconds between heartbeats of a device that does not report its interval.
const BEAT_INTERVAL_S: i64 = 60;

/// The next state of a device, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutTransition {
    /// The state to enter.
    pub state: UpdateState,
    /// The reason, for people.
    pub detail: Option<String>,
}

impl RolloutTransition {
    fn to(state: UpdateState) -> Option<Self> {
        Some(Self { state, detail: None })
    }

    fn because(state: UpdateState, detail: impl Into<String>) -> Option<Self> {
        Some(Self { state, detail: Some(detail.into()) })
    }
}

/// The transition that a device makes by what is known of it, or `None` if it stays where it is.
///
/// Only a heartbeat confirms an update: one that arrived after the device had the image, and that
/// reports the new version. An answer to the command or a complete download is not enough, and
/// neither is such a heartbeat from a device that never fetched the image. Silence counts from
/// `listening_since`, the moment from which messages have been read without interruption: before it
/// the device may have sent heartbeats that we missed.
///
/// A confirmed device is still watched, because a version may fail hours later. While the rollout
/// runs, a device that reports another version has fallen back; until the soak of its stage is over,
/// a crash loop and silence count against the version too.
#[must_use]
pub fn observe(
    rollout: &RunningRollout,
    member: &RolloutMember,
    listening_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<RolloutTransition> {
    match member.state {
        UpdateState::Waiting => waiting(rollout, member, now),
        UpdateState::Offered => offered(rollout, member, now),
        UpdateState::Downloading => downloading(rollout, member, now),
        UpdateState::Installing => installing(rollout, member, listening_since, now),
        UpdateState::Confirmed => confirmed(rollout, member, listening_since, now),
        _ => None,
    }
}

fn waiting(
    rollout: &RunningRollout,
    member: &RolloutMember,
    now: DateTime<Utc>,
) -> Option<RolloutTransition> {
    if runs(member.beat_version.as_deref(), &rollout.version) {
        return RolloutTransition::because(UpdateState::Cancelled, "it runs this version already");
    }
    if now >= rollout.deadline_at { not_reached() } else { None }
}

fn not_reached() -> Option<RolloutTransition> {
    RolloutTransition::because(UpdateState::Cancelled, "it was not reached before the deadline")
}

fn offered(
    rollout: &RunningRollout,
    member: &RolloutMember,
    now: DateTime<Utc>,
) -> Option<RolloutTransition> {
    if let Some(fetched) = fetched(member) {
        return RolloutTransition::to(fetched);
    }
    match member.command? {
        CommandStatus::Error | CommandStatus::Timeout if member.is_refused => held(rollout, now),
        CommandStatus::Ack => RolloutTransition::to(UpdateState::Downloading),
        CommandStatus::Success => RolloutTransition::to(UpdateState::Installing),
        CommandStatus::Error => {
            RolloutTransition::because(UpdateState::Failed, reported_error(member))
        }
        CommandStatus::Timeout if member.was_sent => RolloutTransition::because(
            UpdateState::Failed,
            "it took the command and did not answer",
        ),
        // The command was never delivered: the device was away, or its maintenance window closed.
        // That says nothing about the version, so the device waits for another command.
        CommandStatus::Timeout if now < rollout.deadline_at => {
            RolloutTransition::to(UpdateState::Waiting)
        }
        CommandStatus::Timeout => not_reached(),
        CommandStatus::Pending | CommandStatus::Sent => None,
    }
}

/// A device that gave up because the server refused it the image, while the rollout was held, gets the
/// command again: its error says nothing about the version.
fn held(rollout: &RunningRollout, now: DateTime<Utc>) -> Option<RolloutTransition> {
    if now >= rollout.deadline_at {
        return not_reached();
    }
    RolloutTransition::because(
        UpdateState::Waiting,
        "it was refused the image while the rollout was held",
    )
}

fn downloading(
    rollout: &RunningRollout,
    member: &RolloutMember,
    now: DateTime<Utc>,
) -> Option<RolloutTransition> {
    if member.fetched_all {
        return RolloutTransition::to(UpdateState::Installing);
    }
    match member.command? {
        CommandStatus::Error | CommandStatus::Timeout if member.is_refused => held(rollout, now),
        CommandStatus::Success => RolloutTransition::to(UpdateState::Installing),
        CommandStatus::Error => {
            RolloutTransition::because(UpdateState::Failed, reported_error(member))
        }
        CommandStatus::Timeout => RolloutTransition::because(
            UpdateState::Failed,
            "it began to fetch the image and did not finish",
        ),
        _ => None,
    }
}

fn installing(
    rollout: &RunningRollout,
    member: &RolloutMember,
    listening_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<RolloutTransition> {
    let version = &rollout.version;
    let beat = member.beat_at.filter(|at| *at > member.since);
    let running = member.beat_version.as_deref();
    if beat.is_some() && runs(running, version) {
        return RolloutTransition::to(UpdateState::Confirmed);
    }
    // After the heartbeat: a device that runs the version has it, whatever it answered.
    if member.command == Some(CommandStatus::Error) {
        return RolloutTransition::because(UpdateState::Failed, reported_error(member));
    }
    let restarted = member.boot.zip(member.boot_before).is_some_and(|(now, then)| now > then);
    let shown = running.unwrap_or("no version");
    if beat.is_some() && restarted {
        let detail = format!("it started anew and runs {shown}");
        return RolloutTransition::because(UpdateState::RolledBack, detail);
    }
    // From when we listen again, if that is later: the device may have been heard in the gap.
    let waited = now - member.since.max(listening_since);
    if waited < TimeDelta::seconds(i64::from(rollout.plan.silent_after_seconds)) {
        return None;
    }
    match beat {
        Some(_) => {
            let detail =
                format!("{} s after it had the image it runs {shown}", waited.num_seconds());
            RolloutTransition::because(UpdateState::Failed, detail)
        }
        None => {
            let detail =
                format!("no heartbeat for {} s after it had the image", waited.num_seconds());
            RolloutTransition::because(UpdateState::Silent, detail)
        }
    }
}

fn confirmed(
    rollout: &RunningRollout,
    member: &RolloutMember,
    listening_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<RolloutTransition> {
    // Another rollout has updated it since, so what it runs now says nothing about this one.
    if member.is_told_since {
        return None;
    }
    let running = member.beat_version.as_deref();
    // Also after its stage: a later fallback is one that the next stages should not see.
    if fell_back(&rollout.version, member.from_version.as_deref(), running) {
        let detail = format!("it was confirmed, and then ran {}", running.unwrap_or_default());
        return RolloutTransition::because(UpdateState::RolledBack, detail);
    }
    if member.stage < rollout.stage {
        return None;
    }
    if member.is_looping {
        return RolloutTransition::because(
            UpdateState::Failed,
            "it was confirmed, and restarts again and again",
        );
    }
    let heard = member.beat_at.unwrap_or(member.since).max(member.since);
    let waited = (now - heard.max(listening_since)).num_seconds();
    let missed = MISSED_BEATS * member.beat_interval_s.unwrap_or(BEAT_INTERVAL_S);
    if waited < missed.max(i64::from(rollout.plan.silent_after_seconds)) {
        return None;
    }
    let detail = format!("it was confirmed, and then sent no heartbeat for {waited} s");
    RolloutTransition::because(UpdateState::Silent, detail)
}

fn fetched(member: &RolloutMember) -> Option<UpdateState> {
    match (member.fetched_all, member.fetched_some) {
        (true, _) => Some(UpdateState::Installing),
        (false, true) => Some(UpdateState::Downloading),
        _ => None,
    }
}

fn reported_error(member: &RolloutMember) -> String {
    member.command_error.as_deref().map_or_else(
        || "it could not".to_owned(),
        |error| format!("it said: {}", error.chars().take(200).collect::<String>()),
    )
}

#[cfg(test)]
mod tests;
