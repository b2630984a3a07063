//! The loop that runs rollouts.

use std::time::Duration;

use acuvim_control::{Lease, ROLLOUTS_LEASE, Strayed};
use acuvim_rollout::fell_back;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    cleaning::remove_orphans,
    error::RolloutError,
    parts::{CHUNK, HealthGate, RolloutRunner, now},
};

/// How long the lease is valid without being renewed, in addition to the timeout of a gate.
const LEASE: TimeDelta = TimeDelta::seconds(60);

/// A round that comes so much later than it should was held up, and with it maybe the devices' messages.
const HELD_UP: TimeDelta = TimeDelta::seconds(30);

/// How often devices are searched for that fell back after their rollout was over.
const FALLBACK_INTERVAL: Duration = Duration::from_secs(20);

/// How often images are removed that no release has.
const CLEANING_INTERVAL: Duration = Duration::from_secs(3600);

impl<G: HealthGate> RolloutRunner<G> {
    /// Runs rollouts until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(Box::pin(self.rounds())).await;
        if let Err(error) = self.control.drop_lease(ROLLOUTS_LEASE, &self.holder, now()).await {
            tracing::debug!(%error, "the lease of rollouts runs out by itself");
        }
    }

    async fn rounds(&self) {
        let (mut cleaned, mut watched) = (Instant::now(), Instant::now());
        // The lease is not renewed while a gate is asked, and must not expire meanwhile.
        let length = LEASE + TimeDelta::from_std(self.gate.timeout()).unwrap_or_default();
        let mut listening = Listening { since: now(), looked: now() };
        loop {
            // Also before the first round: after a start the devices' messages are still being read.
            sleep(self.interval).await;
            self.look(&mut listening);
            let lease = self.control.hold_lease(ROLLOUTS_LEASE, &self.holder, now(), length).await;
            let lease = match lease {
                Ok(Some(lease)) => lease,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, "rollouts wait for control");
                    // Meanwhile the devices' messages could not be stored.
                    listening.since = now();
                    continue;
                }
            };
            if let Err(error) = self.round(lease, listening.since).await {
                error.log("a rollout waits");
            }
            if watched.elapsed() >= FALLBACK_INTERVAL {
                watched = Instant::now();
                if let Err(error) = self.note_fallbacks(lease).await {
                    error.log("fallbacks are looked for later");
                }
            }
            if cleaned.elapsed() >= CLEANING_INTERVAL {
                cleaned = Instant::now();
                if let Err(error) = remove_orphans(&self.control, &self.images, now()).await {
                    error.log("images were not cleaned up");
                }
            }
        }
    }

    fn look(&self, listening: &mut Listening) {
        let now = now();
        let interval = TimeDelta::from_std(self.interval).unwrap_or_default();
        if now - listening.looked > interval + HELD_UP || !self.gate.is_up_to_date() {
            listening.since = now;
        }
        listening.looked = now;
    }

    /// Moves every running rollout on by one step.
    async fn round(&self, lease: Lease, since: DateTime<Utc>) -> Result<(), RolloutError> {
        for rollout in self.control.running_rollouts().await? {
            let members = self.control.rollout_members(rollout.id).await?;
            let step = self.step(&rollout, members, since).await?;
            if step.is_empty() {
                continue;
            }
            if !self.control.apply_rollout(lease, &rollout, &step, now()).await? {
                // Another process runs rollouts now, or a person has changed this one: the next round
                // reads it anew.
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

    /// Records devices that left the version of a rollout after it was over.
    async fn note_fallbacks(&self, lease: Lease) -> Result<(), RolloutError> {
        let strayed = self.control.strayed_devices().await?;
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
        Ok(self.control.note_fallbacks(lease, &fallen, now()).await?)
    }
}

/// Since when devices' messages have arrived without a break. Silence before that may be our own outage.
struct Listening {
    since: DateTime<Utc>,
    looked: DateTime<Utc>,
}

#[cfg(test)]
mod tests;
