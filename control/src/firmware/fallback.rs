//! Devices that left the version of a rollout after it was over: each is a failure of that version,
//! and an alert.

use acuvim_schemas::{api::UpdateState, event::alert_id, payload::Severity};
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{
    MemberChange, ROLLOUTS_LEASE,
    apply::{Moved, moved, progress},
};
use crate::{Control, Error, Lease, NewAlert, alerts::Applying, db::Tx};

/// The alert of a device that fell back from a version that it had confirmed.
const FALLBACK: &str = "firmware_fallback";

/// A device that had confirmed the version of a rollout that is completed, and names another one.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Strayed {
    /// The rollout.
    pub rollout_id: Uuid,
    /// Its version.
    pub version: String,
    /// Which device.
    pub device_id: String,
    /// What it ran when the rollout began.
    pub from_version: Option<String>,
    /// What its newest heartbeat names.
    pub running: String,
}

impl Control {
    /// The devices of completed rollouts that name another version than the one that they confirmed,
    /// but for those that another rollout has told something since. They may have been updated by
    /// other means: the caller tells.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// Counts devices as fallen back, each with its alert. Nothing is stored if another process runs
    /// rollouts by now.
    ///
    /// # Errors
    /// When the database can't be asked.
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
            if moved(&mut tx, (one.rollout_id, &one.version), &change, now).await? == Moved::Not {
                continue;
            }
            applying.raise(&mut tx, &alert(one, now)).await?;
            if !rollouts.contains(&one.rollout_id) {
                rollouts.push(one.rollout_id);
            }
        }
        for rollout in rollouts {
            progress(&mut tx, rollout, now).await?;
        }
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(())
    }
}

fn alert(one: &Strayed, now: DateTime<Utc>) -> NewAlert {
    let Strayed { rollout_id, version, device_id, from_version, running } = one;
    let what = format!("{FALLBACK}/{rollout_id}");
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

/// Ends the alerts about a device's fallback: a rollout has it confirmed again.
pub(super) async fn clear_fallbacks(
    tx: &mut Tx,
    device_id: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let open: Vec<(Uuid,)> = tx
        .fetch_all(
            "SELECT id FROM alerts WHERE device_id = $1 AND alert_type = $2 AND origin = 'health'
                 AND resolved_at IS NULL",
            vec![device_id.into(), FALLBACK.into()],
        )
        .await?;
    let mut applying = Applying::new(now);
    for (id,) in open {
        applying.clear(tx, id, now, None).await?;
    }
    Ok(())
}
