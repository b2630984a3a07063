//! Runs rollouts: one process does, under a lease. Each look reads what is known, asks the pure logic
//! what is next, and stores that in one transaction, so that it goes on wherever it was stopped.

use std::{sync::Arc, time::Duration};

use acuvim_control::{
    Lease, MemberChange, NewCommand, ROLLOUTS_LEASE, RolloutChange, RolloutMember, RolloutOffer,
    RolloutStep, RunningRollout, Strayed,
};
use acuvim_firmware_registry::{
    GateAnswer, Judged, Next, Window, fell_back, judge, observe, offers, runs,
};
use acuvim_schemas::{
    api::{Deliver, Firmware, RolloutState, UpdateState},
    command::CommandKind,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{gate, offer};
use crate::{App, auth::now, problem::ApiError};

/// How long the lease is held without being renewed, beside what a gate may take.
const LEASE: TimeDelta = TimeDelta::seconds(60);

/// A look that comes so much later than it should was held up, and so may have been what devices said.
const HELD_UP: TimeDelta = TimeDelta::seconds(30);

/// Devices that are told in one transaction.
const CHUNK: usize = 200;

/// How often devices are looked for that fell back after their rollout was over.
const FALLBACKS: Duration = Duration::from_secs(20);

/// How often images are looked for that no release has.
const CLEANING: Duration = Duration::from_secs(3600);

/// An image without a release that is older than this was left behind.
const LEFT_BEHIND: TimeDelta = TimeDelta::days(1);

/// Looks after rollouts until told to stop.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let work = async {
        let (mut cleaned, mut watched) = (tokio::time::Instant::now(), tokio::time::Instant::now());
        let length = LEASE + TimeDelta::from_std(app.parts.sql.timeout).unwrap_or_default();
        let mut listening = Listening { since: now(), looked: now() };
        loop {
            tokio::time::sleep(app.parts.firmware.rollout_interval).await;
            listening.look(&app);
            let held = app
                .control()
                .hold_lease(ROLLOUTS_LEASE, &app.parts.firmware.holder, now(), length)
                .await;
            let lease = match held {
                Ok(Some(lease)) => lease,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, "rollouts wait for control");
                    // What devices said meanwhile could not be noted.
                    listening.since = now();
                    continue;
                }
            };
            if let Err(error) = look(&app, lease, listening.since).await {
                tracing::info!(error = %error.problem.detail, "a rollout waits");
            }
            if watched.elapsed() >= FALLBACKS {
                watched = tokio::time::Instant::now();
                if let Err(error) = note_fallbacks(&app, lease).await {
                    tracing::info!(error = %error.problem.detail, "fallbacks are looked for later");
                }
            }
            if cleaned.elapsed() >= CLEANING {
                cleaned = tokio::time::Instant::now();
                clean(&app).await;
            }
        }
    };
    stop.run_until_cancelled(Box::pin(work)).await;
    let dropped = app.control().drop_lease(ROLLOUTS_LEASE, &app.parts.firmware.holder, now()).await;
    if let Err(error) = dropped {
        tracing::debug!(%error, "the lease of rollouts runs out by itself");
    }
}

/// Since when devices' words have reached us without a break: before it, silence may have been ours.
struct Listening {
    since: DateTime<Utc>,
    looked: DateTime<Utc>,
}

impl Listening {
    fn look(&mut self, app: &App) {
        let now = now();
        let interval = TimeDelta::from_std(app.parts.firmware.rollout_interval).unwrap_or_default();
        if now - self.looked > interval + HELD_UP || app.status().not_hot.is_some() {
            self.since = now;
        }
        self.looked = now;
    }
}

async fn look(
    app: &Arc<App>,
    lease: Lease,
    listening_since: DateTime<Utc>,
) -> Result<(), ApiError> {
    for rollout in app.control().running_rollouts().await? {
        let members = app.control().rollout_members(rollout.id).await?;
        let step = step(app, &rollout, members, listening_since).await?;
        if step.is_empty() {
            continue;
        }
        let holder = (lease, app.parts.firmware.holder.as_str());
        if !app.control().apply_rollout(holder, &rollout, &step, now()).await? {
            // Another process runs them now, or a person has changed this one; the next look sees.
            continue;
        }
        if let Some(change) = &step.change {
            tracing::info!(
                rollout = %rollout.id, version = rollout.version, decision = change.decision,
                reason = change.reason, "a rollout was decided on"
            );
        }
    }
    Ok(())
}

/// Looks for devices that left the version of a rollout after it was over.
async fn note_fallbacks(app: &Arc<App>, lease: Lease) -> Result<(), ApiError> {
    let strayed = app.control().strayed_devices().await?;
    let fallen: Vec<Strayed> = strayed
        .into_iter()
        .filter(|d| fell_back(&d.version, d.from_version.as_deref(), Some(&d.running)))
        .take(CHUNK)
        .collect();
    for one in &fallen {
        tracing::info!(
            rollout = %one.rollout_id, device_id = one.device_id, version = one.version,
            running = one.running, "a device fell back after its rollout was over"
        );
    }
    if fallen.is_empty() {
        return Ok(());
    }
    Ok(app.control().note_fallbacks(lease, &fallen, now()).await?)
}

/// What is next for a rollout.
async fn step(
    app: &Arc<App>,
    rollout: &RunningRollout,
    mut members: Vec<RolloutMember>,
    listening_since: DateTime<Utc>,
) -> Result<RolloutStep, ApiError> {
    let now = now();
    let Some(release) = app.control().firmware(&rollout.version).await? else {
        let reason = "its firmware was deleted".to_owned();
        return Ok(decided(rollout, Next::Stop(reason), json!({}), now, Vec::new()));
    };
    let changes = observed(rollout, &mut members, listening_since, now);
    let mut judged = judge(rollout, &members, None, now);
    if let (Next::AskGate, Some(sql)) = (&judged.next, &rollout.plan.health_gate_sql) {
        let answer: GateAnswer = gate::ask(app, rollout.id, sql).await;
        judged = judge(rollout, &members, Some(&answer), now);
    }
    let Judged { next, figures } = judged;
    if next != Next::GoOn {
        return Ok(decided(rollout, next, figures, now, changes));
    }
    let mut told = Vec::new();
    for member in offers(rollout, &members, now).into_iter().take(CHUNK) {
        told.extend(told_to(app, rollout, &release.firmware, member, now)?);
    }
    Ok(RolloutStep { changes, offers: told, change: None })
}

/// Moves devices on by what is known of them.
fn observed(
    rollout: &RunningRollout,
    members: &mut [RolloutMember],
    listening_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<MemberChange> {
    let mut changes = Vec::new();
    for member in members {
        let Some(look) = observe(rollout, member, listening_since, now) else { continue };
        let (device_id, from, to) = (member.device_id.clone(), member.state, look.state);
        changes.push(MemberChange { device_id, from, to, detail: look.detail });
        member.is_missed =
            to == UpdateState::Cancelled && !runs(member.beat_version.as_deref(), &rollout.version);
        (member.state, member.since) = (to, now);
    }
    changes
}

fn decided(
    rollout: &RunningRollout,
    next: Next,
    figures: serde_json::Value,
    now: DateTime<Utc>,
    changes: Vec<MemberChange>,
) -> RolloutStep {
    let stage = rollout.stage;
    let (state, stage, soak_since, decision, reason) = match next {
        Next::Soak => {
            let reason = format!("the devices of stage {stage} are through; it is being watched");
            (RolloutState::Running, stage, Some(now), "soaking", reason)
        }
        Next::NextStage => {
            let reason = format!("stage {stage} is good");
            (RolloutState::Running, stage + 1, None, "next_stage", reason)
        }
        Next::Pause(reason) => (RolloutState::Paused, stage, None, "gate_error", reason),
        Next::Stop(reason) => (RolloutState::Stopped, stage, None, "stopped", reason),
        Next::Complete => {
            let reason = "every device has ended".to_owned();
            (RolloutState::Completed, stage, None, "completed", reason)
        }
        Next::GoOn | Next::AskGate => {
            return RolloutStep { changes, offers: Vec::new(), change: None };
        }
    };
    let change = RolloutChange { state, stage, soak_since, decision, reason, figures };
    RolloutStep { changes, offers: Vec::new(), change: Some(change) }
}

/// What a device is told; none if there is no time left for it.
fn told_to(
    app: &App,
    rollout: &RunningRollout,
    firmware: &Firmware,
    member: &RolloutMember,
    now: DateTime<Utc>,
) -> Result<Option<RolloutOffer>, ApiError> {
    let left = (rollout.deadline_at - now).num_seconds();
    let window = rollout.plan.window.as_ref().and_then(Window::parse);
    let expires_s = window.map_or(left, |window| window.left(now, member.zone()).min(left));
    if expires_s < 1 {
        return Ok(None);
    }
    let options = &app.parts.commands;
    let url = offer::url(app, firmware, Some(&member.device_id), rollout.deadline_at)?;
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
        first_timeout_s: i64::from(options.timeout_s),
        ack_timeout_s: i64::from(options.ota_update_s),
        expires_s,
        idempotency_key: None,
        topic_prefix: options.topic_prefix.clone(),
        section: None,
        desired: false,
        group_command: None,
    };
    Ok(Some(RolloutOffer { boot: member.boot, command }))
}

/// Removes images that no release has: what an upload left whose process was killed.
async fn clean(app: &App) {
    let cleaned = async {
        let kept = app.control().firmware_list(false).await?;
        let store = app.parts.firmware.images.store();
        for stored in store.list().await? {
            let needed = kept.iter().any(|release| release.object == stored.name);
            // Under a name of our own: others may keep theirs beside them.
            let name = stored.name.strip_suffix(".bin").map(str::parse::<Uuid>);
            let ours = name.is_some_and(|name| name.is_ok());
            if ours && !needed && now() - stored.modified > LEFT_BEHIND {
                store.delete(&stored.name).await?;
                tracing::info!(object = stored.name, "removed an image that no release has");
            }
        }
        Ok::<_, ApiError>(())
    };
    if let Err(error) = cleaned.await {
        tracing::info!(error = %error.problem.detail, "images were not cleaned up");
    }
}
