//! Devices that leave the version of a rollout after its end: each counts as a failure of that version,
//! and raises an alert.

use acuvim_model::{UpdateState, event::alert_id};
use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{
    device::{FALLBACK, MemberChange, RolloutRef, move_device},
    progress::emit_progress,
    running::ROLLOUTS_LEASE,
};
use crate::{
    alerts::{Applying, NewAlert},
    db::Control,
    error::Error,
    leases::Lease,
};

/// A device that confirmed the version of a completed rollout, and now runs another one.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Strayed {
    /// The id of the rollout.
    pub rollout_id: Uuid,
    /// The version of the rollout.
    pub version: String,
    /// The id of the device.
    pub device_id: String,
    /// The version that it ran when the rollout began.
    pub from_version: Option<String>,
    /// The version in its newest heartbeat.
    pub running: String,
}

impl Control {
    /// Devices of completed rollouts that run another version than they confirmed, apart from those that
    /// another rollout has sent a command since.
    ///
    /// They may have fallen back, or have been updated by other means: `acuvim_rollout::fell_back` tells.
    pub async fn strayed_devices(&self) -> Result<Vec<Strayed>, Error> {
        self.fetch_all(
            "SELECT m.rollout_id, m.version, m.device_id, m.from_version, d.beat_version AS running
             FROM rollouts r JOIN rollout_devices m ON m.rollout_id = r.id
             JOIN devices d ON d.device_id = m.device_id
             WHERE r.state = 'completed' AND m.state = 'confirmed'
                 AND d.beat_version IS NOT NULL AND d.beat_version <> m.version
                 AND NOT EXISTS (SELECT 1 FROM rollout_devices o WHERE o.device_id = m.device_id
                     AND o.rollout_id <> m.rollout_id AND o.since > m.since
                     AND o.state <> 'waiting'
                     AND (o.state <> 'cancelled' OR o.request_id IS NOT NULL))
             ORDER BY m.rollout_id, m.ordinal",
            vec![],
        )
        .await
    }

    /// Counts devices as fallen back, each with an alert. Stores nothing if the lease is lost.
    pub async fn note_fallbacks(
        &self,
        lease: Lease,
        fallen: &[Strayed],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        if !tx.holds(ROLLOUTS_LEASE, lease, now).await? {
            return Ok(());
        }
        let mut applying = Applying::new(now);
        let mut rollouts = Vec::new();
        for one in fallen {
            let change = MemberChange {
                device_id: one.device_id.clone(),
                from: UpdateState::Confirmed,
                to: UpdateState::RolledBack,
                detail: Some(format!("it was confirmed, and then ran {}", one.running)),
            };
            let rollout = RolloutRef { id: one.rollout_id, version: &one.version };
            if !move_device(&mut tx, rollout, &change, now).await? {
                continue;
            }
            applying.raise(&mut tx, &alert(one, now)).await?;
            if !rollouts.contains(&one.rollout_id) {
                rollouts.push(one.rollout_id);
            }
        }
        for rollout in rollouts {
            emit_progress(&mut tx, rollout, now).await?;
        }
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(())
    }
}

fn alert(one: &Strayed, now: DateTime<Utc>) -> NewAlert {
    let Strayed { rollout_id, version, device_id, from_version, running } = one;
    let what = format!("{FALLBACK}/{rollout_id}");
    // With the time, because a device may fall back again after a retry has confirmed it.
    let id = alert_id(device_id, &what, now.timestamp_micros());
    NewAlert {
        severity: Severity::Critical,
        message: format!(
            "{device_id}: it runs firmware {running}, after it had confirmed {version} in a rollout"
        ),
        metadata: Some(json!({
            "rollout_id": rollout_id, "version": version, "from_version": from_version,
            "running": running,
        })),
        ..NewAlert::of_health(id, device_id, FALLBACK, now)
    }
}
