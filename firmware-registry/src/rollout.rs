//! The logic of rollouts: what a device's state becomes by what is known of it, and what a rollout
//! does next. Pure; who runs it applies what it answers.

use acuvim_control::{RolloutMember, RunningRollout};
use acuvim_schemas::{
    api::{GATE_FAILED, RolloutCounts, UpdateState},
    command::CommandStatus,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    version::{fell_back, runs},
    window::Window,
};

/// Heartbeats that a confirmed device may leave out before it counts as silent, as for its status.
const MISSED_BEATS: i64 = 5;

/// The interval of heartbeats of a device that does not say it, in seconds.
const BEAT_INTERVAL_S: i64 = 60;

/// A device's next state, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The state from now on.
    pub state: UpdateState,
    /// Why, in words.
    pub detail: Option<String>,
}

impl Look {
    fn at(state: UpdateState) -> Option<Self> {
        Some(Self { state, detail: None })
    }

    fn because(state: UpdateState, detail: impl Into<String>) -> Option<Self> {
        Some(Self { state, detail: Some(detail.into()) })
    }
}

/// What becomes of a device by what is known of it; none: nothing new.
///
/// It is confirmed by a heartbeat alone, which came after it had the image and names the new version:
/// neither its answer to the command nor what it fetched is enough, and neither is a heartbeat of one
/// that never fetched it. Silence counts from when we have listened without a break.
///
/// Confirmed is not the end: a version may fail hours later. As long as the rollout runs, a device
/// that names another version has fallen back; until the soak of its stage is over, so do a loop of
/// restarts and silence count against the version.
#[must_use]
pub fn observe(
    rollout: &RunningRollout,
    member: &RolloutMember,
    listening_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Look> {
    match member.state {
        UpdateState::Waiting => waiting(rollout, member, now),
        UpdateState::Offered => offered(rollout, member, now),
        UpdateState::Downloading => downloading(rollout, member, now),
        UpdateState::Installing => installing(rollout, member, listening_since, now),
        UpdateState::Confirmed => confirmed(rollout, member, listening_since, now),
        _ => None,
    }
}

fn waiting(rollout: &RunningRollout, member: &RolloutMember, now: DateTime<Utc>) -> Option<Look> {
    if runs(member.beat_version.as_deref(), &rollout.version) {
        return Look::because(UpdateState::Cancelled, "it runs this version already");
    }
    if now >= rollout.deadline_at { not_reached() } else { None }
}

fn not_reached() -> Option<Look> {
    Look::because(UpdateState::Cancelled, "it was not reached before the deadline")
}

fn offered(rollout: &RunningRollout, member: &RolloutMember, now: DateTime<Utc>) -> Option<Look> {
    if let Some(fetched) = fetched(member) {
        return Look::at(fetched);
    }
    match member.command? {
        CommandStatus::Error | CommandStatus::Timeout if member.is_refused => held(rollout, now),
        CommandStatus::Ack => Look::at(UpdateState::Downloading),
        CommandStatus::Success => Look::at(UpdateState::Installing),
        CommandStatus::Error => Look::because(UpdateState::Failed, said(member)),
        CommandStatus::Timeout if member.was_sent => {
            Look::because(UpdateState::Failed, "it took the command and did not answer")
        }
        // Nobody took it: the device was away, or its window is over. That says nothing of the version.
        CommandStatus::Timeout if now < rollout.deadline_at => Look::at(UpdateState::Waiting),
        CommandStatus::Timeout => not_reached(),
        CommandStatus::Pending | CommandStatus::Sent => None,
    }
}

/// A device that gave up because it was refused the image while the rollout was held is told again.
fn held(rollout: &RunningRollout, now: DateTime<Utc>) -> Option<Look> {
    if now >= rollout.deadline_at {
        return not_reached();
    }
    Look::because(UpdateState::Waiting, "it was refused the image while the rollout was held")
}

fn downloading(
    rollout: &RunningRollout,
    member: &RolloutMember,
    now: DateTime<Utc>,
) -> Option<Look> {
    if member.fetched_all {
        return Look::at(UpdateState::Installing);
    }
    match member.command? {
        CommandStatus::Error | CommandStatus::Timeout if member.is_refused => held(rollout, now),
        CommandStatus::Success => Look::at(UpdateState::Installing),
        CommandStatus::Error => Look::because(UpdateState::Failed, said(member)),
        CommandStatus::Timeout => {
            Look::because(UpdateState::Failed, "it began to fetch the image and did not finish")
        }
        _ => None,
    }
}

fn installing(
    rollout: &RunningRollout,
    member: &RolloutMember,
    listening_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Look> {
    let version = &rollout.version;
    let beat = member.beat_at.filter(|at| *at > member.since);
    let running = member.beat_version.as_deref();
    if beat.is_some() && runs(running, version) {
        return Look::at(UpdateState::Confirmed);
    }
    if member.command == Some(CommandStatus::Error) {
        return Look::because(UpdateState::Failed, said(member));
    }
    let restarted = member.boot.zip(member.boot_before).is_some_and(|(now, then)| now > then);
    let shown = running.unwrap_or("no version");
    if beat.is_some() && restarted {
        let detail = format!("it started anew and runs {shown}");
        return Look::because(UpdateState::RolledBack, detail);
    }
    let waited = now - member.since.max(listening_since);
    if waited < TimeDelta::seconds(i64::from(rollout.plan.silent_after_seconds)) {
        return None;
    }
    match beat {
        Some(_) => {
            let detail =
                format!("{} s after it had the image it runs {shown}", waited.num_seconds());
            Look::because(UpdateState::Failed, detail)
        }
        None => {
            let detail =
                format!("no heartbeat for {} s after it had the image", waited.num_seconds());
            Look::because(UpdateState::Silent, detail)
        }
    }
}

fn confirmed(
    rollout: &RunningRollout,
    member: &RolloutMember,
    listening_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Look> {
    // What another rollout has made of it since is not this one's matter.
    if member.is_told_since {
        return None;
    }
    let running = member.beat_version.as_deref();
    if fell_back(&rollout.version, member.from_version.as_deref(), running) {
        let detail = format!("it was confirmed, and then ran {}", running.unwrap_or_default());
        return Look::because(UpdateState::RolledBack, detail);
    }
    if member.stage < rollout.stage {
        return None;
    }
    if member.is_looping {
        return Look::because(
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
    Look::because(UpdateState::Silent, detail)
}

fn fetched(member: &RolloutMember) -> Option<UpdateState> {
    match (member.fetched_all, member.fetched_some) {
        (true, _) => Some(UpdateState::Installing),
        (false, true) => Some(UpdateState::Downloading),
        _ => None,
    }
}

fn said(member: &RolloutMember) -> String {
    member.command_error.as_deref().map_or_else(
        || "it could not".to_owned(),
        |error| format!("it said: {}", error.chars().take(200).collect::<String>()),
    )
}

/// What the health gate answered.
#[derive(Debug, Clone, PartialEq)]
pub enum GateAnswer {
    /// The first column of its first row was true; the row.
    Healthy(Value),
    /// It was not; the row.
    Unhealthy(Value),
    /// It could not be asked.
    Failed(String),
    /// It can't be asked at present.
    Away,
}

/// What a rollout does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Tell devices that are due, if there are any.
    GoOn,
    /// Watch the stage from now on.
    Soak,
    /// Ask the health gate.
    AskGate,
    /// Begin the next stage.
    NextStage,
    /// Hold it: the gate could not be asked.
    Pause(String),
    /// End it: too much went wrong.
    Stop(String),
    /// It is done.
    Complete,
}

/// A rollout's next step, and the figures that it is decided on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What it does.
    pub next: Next,
    /// On which figures.
    pub figures: Value,
}

/// Judges a rollout by its devices, and by what its gate answered, if it was asked.
#[must_use]
pub fn judge(
    rollout: &RunningRollout,
    members: &[RolloutMember],
    gate: Option<&GateAnswer>,
    now: DateTime<Utc>,
) -> Judged {
    let (mut all, mut here) = (RolloutCounts::default(), RolloutCounts::default());
    for member in members {
        all.add(member.state, 1);
        if member.stage <= rollout.stage {
            here.add(member.state, 1);
        }
    }
    let figures = json!({
        "stage": rollout.stage, "devices": all, "up_to_this_stage": here,
        "failure_percent": percent(all.failures(), all.confirmed + all.failures()),
        "forgiven_failures": rollout.forgiven,
        "max_failure_percent": rollout.plan.max_failure_percent,
    });
    let judged = |next: Next| Judged { next, figures: figures.clone() };
    let (through, over) = (is_through(members, rollout.stage), is_over(members, rollout.stage));
    if let Some(reason) = too_many(rollout, &all, through) {
        return judged(Next::Stop(reason));
    }
    let at_work = all.offered + all.downloading + all.installing;
    let missed = members.iter().filter(|member| member.is_missed).count();
    if now >= rollout.deadline_at && missed > 0 && at_work + all.waiting == 0 {
        let reason = format!("the deadline is over, and {missed} devices were not reached");
        return judged(Next::Stop(reason));
    }
    let stages = i64::try_from(rollout.plan.stages.len()).unwrap_or(i64::MAX);
    if rollout.stage > stages {
        let ended = all.waiting + at_work == 0;
        return judged(if ended { Next::Complete } else { Next::GoOn });
    }
    if !over {
        return judged(Next::GoOn);
    }
    let Some(since) = rollout.soak_since else { return judged(Next::Soak) };
    let stage = usize::try_from(rollout.stage - 1).ok().and_then(|n| rollout.plan.stages.get(n));
    let soak = stage.map_or(0, |stage| i64::from(stage.soak_seconds));
    if now - since < TimeDelta::seconds(soak) {
        return judged(Next::GoOn);
    }
    // With nobody left to tell there is nothing to compare with, and nothing to decide.
    if rollout.plan.health_gate_sql.is_none() || all.waiting + all.offered == 0 {
        return judged(Next::NextStage);
    }
    let with = |row: &Value| json!({ "gate": row, "counted": figures });
    match gate {
        None => judged(Next::AskGate),
        Some(GateAnswer::Away) => judged(Next::GoOn),
        Some(GateAnswer::Healthy(row)) => Judged { next: Next::NextStage, figures: with(row) },
        Some(GateAnswer::Unhealthy(row)) => {
            let reason = format!("the health gate of stage {} says no", rollout.stage);
            Judged { next: Next::Stop(reason), figures: with(row) }
        }
        Some(GateAnswer::Failed(error)) => {
            let reason = format!("{GATE_FAILED}: {error}");
            Judged { next: Next::Pause(reason), figures }
        }
    }
}

/// Whether the devices up to a stage have ended, but for those that were told and are away.
fn is_through(members: &[RolloutMember], stage: i64) -> bool {
    let done = |member: &RolloutMember| member.state.is_over() || is_away(member);
    members.iter().filter(|member| member.stage <= stage).all(done)
}

fn is_away(member: &RolloutMember) -> bool {
    member.state == UpdateState::Offered && !member.is_online
}

/// Whether a stage is over: its devices are through, and one at least runs the new version, if any is
/// left that could.
fn is_over(members: &[RolloutMember], stage: i64) -> bool {
    let here = || members.iter().filter(|member| member.stage <= stage);
    let confirmed = here().any(|member| member.state == UpdateState::Confirmed);
    is_through(members, stage) && (confirmed || !here().any(is_away))
}

fn percent(failures: i64, ended: i64) -> f64 {
    if ended == 0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss, reason = "counts of devices are small")]
    let percent = 100.0 * failures as f64 / ended as f64;
    percent
}

fn too_many(rollout: &RunningRollout, all: &RolloutCounts, through: bool) -> Option<String> {
    let failures = (all.failures() - rollout.forgiven).max(0);
    let ended = all.confirmed + failures;
    let enough = ended >= i64::from(rollout.plan.failure_min_count) || through;
    let percent = percent(failures, ended);
    if !enough || percent <= rollout.plan.max_failure_percent {
        return None;
    }
    Some(format!(
        "{failures} of the {ended} devices that ended in stage {} failed ({percent:.1} %, allowed are \
         {} %): {} failed, {} rolled back, {} fell silent",
        rollout.stage, rollout.plan.max_failure_percent, all.failed, all.rolled_back, all.silent,
    ))
}

/// The devices to tell now: of the stages that have begun, in their window, as many as may be at work
/// at a time. Devices that are away count for nothing.
#[must_use]
pub fn offers<'a>(
    rollout: &RunningRollout,
    members: &'a [RolloutMember],
    now: DateTime<Utc>,
) -> Vec<&'a RolloutMember> {
    let window = rollout.plan.window.as_ref().and_then(Window::parse);
    let at_work = members
        .iter()
        .filter(|m| m.state.is_under_way() || (m.state == UpdateState::Offered && m.is_online))
        .count();
    let room = usize::try_from(rollout.plan.max_in_progress).unwrap_or(usize::MAX);
    let due = |member: &&RolloutMember| {
        member.state == UpdateState::Waiting
            && member.stage <= rollout.stage
            && window.is_none_or(|window| window.has(now, member.zone()))
    };
    members.iter().filter(due).take(room.saturating_sub(at_work)).collect()
}
