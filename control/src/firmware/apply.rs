//! Storing a rollout's step in one transaction: devices that entered another state, commands, and a
//! decision about the rollout.

use acuvim_model::{RolloutState, UpdateState};
use acuvim_rollout::RunningRollout;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::{
    device::{MemberChange, RolloutRef, emit_state, move_device},
    progress::{Decision, decide, emit_progress},
    running::ROLLOUTS_LEASE,
    withdraw::withdraw,
};
use crate::{
    audit::By,
    commands::{Given, NewCommand, give},
    db::{Control, Tx},
    error::Error,
    leases::Lease,
};

/// A device that is sent the update command.
#[derive(Debug, Clone)]
pub struct RolloutOffer {
    /// Its boot count at this moment.
    pub boot: Option<i64>,
    /// The update command itself.
    pub command: NewCommand,
}

/// A decision about a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutChange {
    /// The state to enter.
    pub state: RolloutState,
    /// The stage to enter.
    pub stage: i64,
    /// When the soak of the stage began, if it has.
    pub soak_since: Option<DateTime<Utc>>,
    /// The name of the decision.
    pub decision: &'static str,
    /// The reason, for people.
    pub reason: String,
    /// The figures that it was made on.
    pub figures: Json,
}

/// A rollout's step.
#[derive(Debug, Clone, Default)]
pub struct RolloutStep {
    /// Devices that enter another state.
    pub changes: Vec<MemberChange>,
    /// Devices that are sent the command.
    pub offers: Vec<RolloutOffer>,
    /// The decision, if one was made.
    pub change: Option<RolloutChange>,
}

impl RolloutStep {
    /// Whether the step changes nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.offers.is_empty() && self.change.is_none()
    }
}

impl Control {
    /// Stores a step. Returns false, and stores nothing, if the lease is lost, or if the rollout has
    /// changed since it was read: a person may have paused it in between.
    pub async fn apply_rollout(
        &self,
        lease: Lease,
        rollout: &RunningRollout,
        step: &RolloutStep,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        if !tx.holds(ROLLOUTS_LEASE, lease, now).await? {
            return Ok(false);
        }
        let unchanged = tx
            .execute(
                "UPDATE rollouts SET updated_at = $1 WHERE id = $2 AND state = 'running'
                     AND updated_at = $3",
                vec![now.into(), rollout.id.into(), rollout.updated_at.into()],
            )
            .await?;
        if unchanged == 0 {
            return Ok(false);
        }
        let this = RolloutRef { id: rollout.id, version: &rollout.version };
        for change in &step.changes {
            move_device(&mut tx, this, change, now).await?;
        }
        for offer in &step.offers {
            send_offer(&mut tx, this, offer, now).await?;
        }
        if let Some(change) = &step.change {
            apply_change(&mut tx, this, change, now).await?;
        }
        emit_progress(&mut tx, rollout.id, now).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(true)
    }
}

/// Moves a waiting device to `offered` and gives it the command, or ends its update if it can't get the
/// command.
async fn send_offer(
    tx: &mut Tx,
    rollout: RolloutRef<'_>,
    offer: &RolloutOffer,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let device_id = &offer.command.device_id;
    // Compare and set: a step that is applied again must not send the command twice.
    let offered = tx
        .execute(
            "UPDATE rollout_devices SET state = 'offered', since = $1, detail = NULL,
                 boot_before = $2, fetched_some = $3, fetched_all = $3, refused = $3
             WHERE rollout_id = $4 AND device_id = $5 AND state = 'waiting'",
            vec![
                now.into(),
                offer.boot.into(),
                false.into(),
                rollout.id.into(),
                device_id.as_str().into(),
            ],
        )
        .await?;
    if offered == 0 {
        return Ok(());
    }
    let by = By { name: format!("rollout {}", rollout.id), ..By::system(now) };
    let change = |from: UpdateState, to: UpdateState, detail: Option<String>| MemberChange {
        device_id: device_id.clone(),
        from,
        to,
        detail,
    };
    let (to, refused) = match give(tx, &offer.command, None, &by).await? {
        Given::Stored(accepted) | Given::Again(accepted, _) => {
            tx.execute(
                "UPDATE rollout_devices SET request_id = $1 WHERE rollout_id = $2 AND device_id = $3",
                vec![accepted.request_id.into(), rollout.id.into(), device_id.as_str().into()],
            )
            .await?;
            let change = change(UpdateState::Waiting, UpdateState::Offered, None);
            return emit_state(tx, rollout, &change, now).await;
        }
        Given::NotFound => (UpdateState::Cancelled, "the device was deleted".to_owned()),
        Given::Disabled => (UpdateState::Cancelled, "the device is disabled".to_owned()),
        Given::TooLarge { bytes, max } => {
            let text = format!("the command has {bytes} bytes, the device takes {max}");
            (UpdateState::Failed, text)
        }
    };
    let change = change(UpdateState::Offered, to, Some(refused));
    move_device(tx, rollout, &change, now).await.map(drop)
}

async fn apply_change(
    tx: &mut Tx,
    rollout: RolloutRef<'_>,
    change: &RolloutChange,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if matches!(change.state, RolloutState::Stopped | RolloutState::Paused) {
        withdraw(tx, rollout.id, UpdateState::Waiting, &By::system(now)).await?;
    }
    tx.execute(
        "UPDATE rollouts SET state = $1, stage = $2, soak_since = $3, reason = $4 WHERE id = $5",
        vec![
            change.state.as_str().into(),
            change.stage.into(),
            change.soak_since.into(),
            change.reason.as_str().into(),
            rollout.id.into(),
        ],
    )
    .await?;
    let figures = change.figures.clone();
    let decision = Decision { name: change.decision, reason: &change.reason, figures };
    decide(tx, rollout.id, now, decision).await
}
