//! What a rollout does next: soak, ask its health gate, begin the next stage, stop, complete.

use acuvim_model::{GATE_FAILED, RolloutCounts, UpdateState};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    member::{RolloutMember, RunningRollout},
    window::Window,
};

/// The result of a health gate, which is a query of the rollout's plan.
#[derive(Debug, Clone, PartialEq)]
pub enum GateAnswer {
    /// The first column of the first row was true; with that row.
    Healthy(Value),
    /// It was anything else; with that row.
    Unhealthy(Value),
    /// The query failed, and would fail again; with its error.
    Failed(String),
    /// The query could not be run at present.
    Away,
}

/// What a rollout does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Nothing but sending the command to devices that are due.
    GoOn,
    /// Begin the soak of the current stage.
    Soak,
    /// Run the health gate, and decide again with its answer.
    AskGate,
    /// Begin the next stage.
    NextStage,
    /// Pause because the health gate failed; with the reason.
    Pause(String),
    /// Stop because too many devices failed or were not reached; with the reason.
    Stop(String),
    /// End: every device is done.
    Complete,
}

/// A rollout's next step, and the figures that it was decided on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The next step.
    pub next: Next,
    /// The figures, as they are stored with the decision.
    pub figures: Value,
}

/// The states of a rollout's devices, summed up.
struct Tally {
    all: RolloutCounts,
    /// Devices that have the command or the image and are not done.
    at_work: i64,
    missed: usize,
    /// Whether every device up to the current stage is done or away.
    is_through: bool,
    /// Whether the current stage is over.
    is_over: bool,
    figures: Value,
}

impl Tally {
    fn of(rollout: &RunningRollout, members: &[RolloutMember]) -> Self {
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
        Self {
            at_work: all.offered + all.downloading + all.installing,
            missed: members.iter().filter(|member| member.is_missed).count(),
            is_through: is_through(members, rollout.stage),
            is_over: is_over(members, rollout.stage),
            all,
            figures,
        }
    }
}

/// Decides a rollout's next step by the states of its devices. `gate` is the answer of its health
/// gate, if the step was [`Next::AskGate`] without it.
#[must_use]
pub fn judge(
    rollout: &RunningRollout,
    members: &[RolloutMember],
    gate: Option<&GateAnswer>,
    now: DateTime<Utc>,
) -> Judged {
    let tally = Tally::of(rollout, members);
    // First, whatever stage it is in: failures of a later stage count as well.
    let next = match stop_reason(rollout, &tally, now) {
        Some(reason) => Next::Stop(reason),
        None => next_of_stage(rollout, &tally, now),
    };
    match (next, gate) {
        (Next::AskGate, Some(answer)) => after_gate(rollout, answer, tally.figures),
        // An answer that was not asked for, because the rollout has moved on since, is ignored.
        (next, _) => Judged { next, figures: tally.figures },
    }
}

fn stop_reason(rollout: &RunningRollout, tally: &Tally, now: DateTime<Utc>) -> Option<String> {
    too_many_failures(rollout, tally).or_else(|| {
        let missed = tally.missed;
        let idle = tally.at_work + tally.all.waiting == 0;
        (now >= rollout.deadline_at && missed > 0 && idle)
            .then(|| format!("the deadline is over, and {missed} devices were not reached"))
    })
}

fn next_of_stage(rollout: &RunningRollout, tally: &Tally, now: DateTime<Utc>) -> Next {
    let all = &tally.all;
    let stages = i64::try_from(rollout.plan.stages.len()).unwrap_or(i64::MAX);
    if rollout.stage > stages {
        let ended = all.waiting + tally.at_work == 0;
        return if ended { Next::Complete } else { Next::GoOn };
    }
    if !tally.is_over {
        return Next::GoOn;
    }
    let Some(since) = rollout.soak_since else { return Next::Soak };
    let stage = usize::try_from(rollout.stage - 1).ok().and_then(|n| rollout.plan.stages.get(n));
    let soak = stage.map_or(0, |stage| i64::from(stage.soak_seconds));
    if now - since < TimeDelta::seconds(soak) {
        return Next::GoOn;
    }
    // With no device left to update, there is nothing to decide, and nothing on the old version to
    // compare with.
    if rollout.plan.health_gate_sql.is_none() || all.waiting + all.offered == 0 {
        return Next::NextStage;
    }
    Next::AskGate
}

fn after_gate(rollout: &RunningRollout, answer: &GateAnswer, figures: Value) -> Judged {
    let with = |row: &Value| json!({ "gate": row, "counted": figures });
    match answer {
        GateAnswer::Away => Judged { next: Next::GoOn, figures },
        GateAnswer::Healthy(row) => Judged { next: Next::NextStage, figures: with(row) },
        GateAnswer::Unhealthy(row) => {
            let reason = format!("the health gate of stage {} says no", rollout.stage);
            Judged { next: Next::Stop(reason), figures: with(row) }
        }
        GateAnswer::Failed(error) => {
            let reason = format!("{GATE_FAILED}: {error}");
            Judged { next: Next::Pause(reason), figures }
        }
    }
}

/// Whether every device up to a stage is done, or has the command and is away.
fn is_through(members: &[RolloutMember], stage: i64) -> bool {
    let done = |member: &RolloutMember| member.state.is_over() || is_away(member);
    members.iter().filter(|member| member.stage <= stage).all(done)
}

fn is_away(member: &RolloutMember) -> bool {
    member.state == UpdateState::Offered && !member.is_online
}

/// Whether a stage is over. Devices that are away don't hold it up, but at least one device must have
/// confirmed the new version, unless none is left that could.
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

fn too_many_failures(rollout: &RunningRollout, tally: &Tally) -> Option<String> {
    let all = &tally.all;
    // Devices can be removed from a rollout after their failures were forgiven.
    let failures = (all.failures() - rollout.forgiven).max(0);
    let ended = all.confirmed + failures;
    // A percentage of very few devices says little, unless no more are to come in this stage.
    let enough = ended >= i64::from(rollout.plan.failure_min_count) || tally.is_through;
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

/// The devices that are sent the command now: those that wait in a stage that has begun, inside their
/// maintenance window, up to the plan's limit of devices at work. Devices that are away don't count
/// against the limit, or a few of them would block it for days.
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

#[cfg(test)]
mod tests;
