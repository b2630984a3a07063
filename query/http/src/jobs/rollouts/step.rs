//! The next step of one rollout.

use acuvim_control::{MemberChange, NewCommand, RolloutChange, RolloutOffer, RolloutStep};
use acuvim_model::{Deliver, Firmware, RolloutState, UpdateState};
use acuvim_rollout::{
    Judged, Next, RolloutMember, RunningRollout, Window, judge, observe, offers, runs,
};
use acuvim_wire::command::CommandKind;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    error::RolloutError,
    parts::{CHUNK, HealthGate, RolloutRunner, now},
};

impl<G: HealthGate> RolloutRunner<G> {
    /// The next step of a rollout. Devices' messages have arrived without a break since `since`.
    pub(super) async fn step(
        &self,
        rollout: &RunningRollout,
        mut members: Vec<RolloutMember>,
        since: DateTime<Utc>,
    ) -> Result<RolloutStep, RolloutError> {
        let now = now();
        let Some(release) = self.control.firmware(&rollout.version).await? else {
            let reason = "its firmware was deleted".to_owned();
            let judged = Judged { next: Next::Stop(reason), figures: json!({}) };
            return Ok(decided(rollout, judged, now, Vec::new()));
        };
        let changes = observed(rollout, &mut members, since, now);
        let mut judged = judge(rollout, &members, None, now);
        if let (Next::AskGate, Some(sql)) = (&judged.next, &rollout.plan.health_gate_sql) {
            let answer = self.gate.ask(rollout.id, sql).await;
            judged = judge(rollout, &members, Some(&answer), now);
        }
        if judged.next != Next::GoOn {
            return Ok(decided(rollout, judged, now, changes));
        }
        let mut offered = Vec::new();
        // The next round offers it to the others: a transaction must not hold the database for long.
        for member in offers(rollout, &members, now).into_iter().take(CHUNK) {
            offered.extend(self.offer(rollout, &release.firmware, member, now)?);
        }
        Ok(RolloutStep { changes, offers: offered, change: None })
    }

    /// The command that offers a device the release; none if there is no time left for it.
    fn offer(
        &self,
        rollout: &RunningRollout,
        firmware: &Firmware,
        member: &RolloutMember,
        now: DateTime<Utc>,
    ) -> Result<Option<RolloutOffer>, RolloutError> {
        let left = (rollout.deadline_at - now).num_seconds();
        let window = rollout.plan.window.as_ref().and_then(Window::parse);
        // A device that comes back after its maintenance window must not begin to update then.
        let expires_s = window.map_or(left, |window| window.left(now, member.zone()).min(left));
        if expires_s < 1 {
            return Ok(None);
        }
        let url = self.urls.for_device(firmware, &member.device_id, rollout.deadline_at)?;
        let params = [
            ("url", json!(url)),
            ("version", json!(firmware.version)),
            ("checksum", json!(firmware.checksum)),
        ];
        let command = NewCommand {
            device_id: member.device_id.clone(),
            command: CommandKind::OtaUpdate.as_str().to_owned(),
            params: params.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
            deliver: Deliver::WhenOnline,
            first_timeout_s: self.commands.first_timeout_s,
            ack_timeout_s: self.commands.ack_timeout_s,
            expires_s,
            idempotency_key: None,
            topic_prefix: self.commands.topic_prefix.clone(),
            section: None,
            desired: false,
            group_command: None,
        };
        Ok(Some(RolloutOffer { boot: member.boot, command }))
    }
}

/// Moves devices to the states that their messages show.
fn observed(
    rollout: &RunningRollout,
    members: &mut [RolloutMember],
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<MemberChange> {
    let mut changes = Vec::new();
    for member in members {
        let Some(moved) = observe(rollout, member, since, now) else { continue };
        let (device_id, from, to) = (member.device_id.clone(), member.state, moved.state);
        changes.push(MemberChange { device_id, from, to, detail: moved.detail });
        member.is_missed =
            to == UpdateState::Cancelled && !runs(member.beat_version.as_deref(), &rollout.version);
        (member.state, member.since) = (to, now);
    }
    changes
}

/// A step that decides on the whole rollout.
fn decided(
    rollout: &RunningRollout,
    judged: Judged,
    now: DateTime<Utc>,
    changes: Vec<MemberChange>,
) -> RolloutStep {
    let change = change(rollout.stage, judged.next, judged.figures, now);
    RolloutStep { changes, offers: Vec::new(), change }
}

fn change(stage: i64, next: Next, figures: Value, now: DateTime<Utc>) -> Option<RolloutChange> {
    let running = RolloutState::Running;
    let change = |state, decision, reason| RolloutChange {
        state,
        stage,
        soak_since: None,
        decision,
        reason,
        figures,
    };
    Some(match next {
        Next::Soak => {
            let reason = format!("the devices of stage {stage} are through; it is being watched");
            RolloutChange { soak_since: Some(now), ..change(running, "soaking", reason) }
        }
        Next::NextStage => {
            let reason = format!("stage {stage} is good");
            RolloutChange { stage: stage + 1, ..change(running, "next_stage", reason) }
        }
        Next::Pause(reason) => change(RolloutState::Paused, "gate_error", reason),
        Next::Stop(reason) => change(RolloutState::Stopped, "stopped", reason),
        Next::Complete => {
            let reason = "every device has ended".to_owned();
            change(RolloutState::Completed, "completed", reason)
        }
        Next::GoOn | Next::AskGate => return None,
    })
}

#[cfg(test)]
mod tests;
