//! Moving one device of a rollout to another state, with everything that follows from it.

use acuvim_model::UpdateState;
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{alerts::Applying, audit::By, db::Tx, error::Error};

/// The type of the alert on a device that fell back from a confirmed version.
pub(super) const FALLBACK: &str = "firmware_fallback";

/// A device's transition to another state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// The id of the device.
    pub device_id: String,
    /// The state that the transition was computed from.
    pub from: UpdateState,
    /// The state to enter.
    pub to: UpdateState,
    /// The reason, for people.
    pub detail: Option<String>,
}

/// Names a rollout in events.
#[derive(Debug, Clone, Copy)]
pub(super) struct RolloutRef<'a> {
    pub id: Uuid,
    pub version: &'a str,
}

/// Moves a device. Compare and set: returns false, and changes nothing, if the device is no longer in
/// the state that the change starts from.
pub(super) async fn move_device(
    tx: &mut Tx,
    rollout: RolloutRef<'_>,
    change: &MemberChange,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let failed = i64::from(change.to.is_failure());
    let moved = tx
        .execute(
            "UPDATE rollout_devices SET state = $1, since = $2, detail = $3, active = $4,
                 failures = failures + $5
             WHERE rollout_id = $6 AND device_id = $7 AND state = $8",
            vec![
                change.to.as_str().into(),
                now.into(),
                change.detail.clone().into(),
                (!change.to.is_over()).into(),
                failed.into(),
                rollout.id.into(),
                change.device_id.as_str().into(),
                change.from.as_str().into(),
            ],
        )
        .await?;
    if moved == 0 {
        return Ok(false);
    }
    if change.to.is_over() {
        // A device may fetch the image on its own, while its command still waits to be delivered.
        drop_command(tx, rollout.id, &change.device_id, now).await?;
    }
    if change.to == UpdateState::Confirmed {
        clear_fallbacks(tx, &change.device_id, now).await?;
    }
    emit_state(tx, rollout, change, now).await?;
    Ok(true)
}

async fn drop_command(
    tx: &mut Tx,
    rollout_id: Uuid,
    device_id: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let sent: Option<(Option<Uuid>,)> = tx
        .fetch_optional(
            "SELECT request_id FROM rollout_devices WHERE rollout_id = $1 AND device_id = $2",
            vec![rollout_id.into(), device_id.into()],
        )
        .await?;
    if let Some(request_id) = sent.and_then(|(id,)| id) {
        tx.take_back_command(request_id, &By::system(now)).await?;
    }
    Ok(())
}

/// Emits the state that a device entered.
pub(super) async fn emit_state(
    tx: &mut Tx,
    rollout: RolloutRef<'_>,
    change: &MemberChange,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (version, state) = (rollout.version, change.to.as_str());
    let reason = match &change.detail {
        Some(detail) => format!("{version} {state}: {detail}"),
        None => format!("{version} {state}"),
    };
    let detail = json!({ "rollout_id": rollout.id, "version": version, "state": state });
    tx.emit_update(&change.device_id, reason, detail, now).await
}

/// Ends the fallback alerts of a device, because a rollout has confirmed its version again.
async fn clear_fallbacks(tx: &mut Tx, device_id: &str, now: DateTime<Utc>) -> Result<(), Error> {
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
