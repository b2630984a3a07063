//! A rollout's step, stored in one transaction under the lease of the one who runs rollouts: devices
//! that moved, devices that are told, and what was decided.

use acuvim_schemas::{
    api::{RolloutState, UpdateState},
    event::{DeviceEvent, Event, RolloutProgress},
};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    ROLLOUTS_LEASE, RunningRollout,
    edit::{take_back, withdraw},
    fallback::clear_fallbacks,
    list::counts,
};
use crate::{
    By, Control, Error, Lease, NewCommand,
    commands::{Given, give},
    db::Tx,
};

/// A device's next state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// Which.
    pub device_id: String,
    /// The state that it was seen in.
    pub from: UpdateState,
    /// The state from now on.
    pub to: UpdateState,
    /// Why.
    pub detail: Option<String>,
}

/// A device that is told.
#[derive(Debug, Clone)]
pub struct RolloutOffer {
    /// How often it had started.
    pub boot: Option<i64>,
    /// With what.
    pub command: NewCommand,
}

/// What is decided about a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutChange {
    /// How it is from now on.
    pub state: RolloutState,
    /// The stage from now on.
    pub stage: i64,
    /// Since when the stage is being watched.
    pub soak_since: Option<DateTime<Utc>>,
    /// The decision's name.
    pub decision: &'static str,
    /// Why, in words.
    pub reason: String,
    /// On which figures.
    pub figures: Json,
}

/// A rollout's step.
#[derive(Debug, Clone, Default)]
pub struct RolloutStep {
    /// Devices that moved.
    pub changes: Vec<MemberChange>,
    /// Devices that are told.
    pub offers: Vec<RolloutOffer>,
    /// What is decided.
    pub change: Option<RolloutChange>,
}

impl RolloutStep {
    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.offers.is_empty() && self.change.is_none()
    }
}

impl Control {
    /// Stores a step. False: the lease has a newer holder, or the rollout is another since it was read;
    /// then nothing is stored.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn apply_rollout(
        &self,
        (lease, holder): (Lease, &str),
        rollout: &RunningRollout,
        step: &RolloutStep,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let ours = tx
            .execute(
                "UPDATE leases SET epoch = epoch
                 WHERE name = $1 AND holder = $2 AND epoch = $3 AND until > $4",
                vec![ROLLOUTS_LEASE.into(), holder.into(), lease.epoch.into(), now.into()],
            )
            .await?;
        let runs = tx
            .execute(
                "UPDATE rollouts SET updated_at = $1 WHERE id = $2 AND state = 'running'
                     AND updated_at = $3",
                vec![now.into(), rollout.id.into(), rollout.updated_at.into()],
            )
            .await?;
        if ours == 0 || runs == 0 {
            return Ok(false);
        }
        for change in &step.changes {
            moved(&mut tx, (rollout.id, &rollout.version), change, now).await?;
        }
        for offer in &step.offers {
            told(&mut tx, rollout, offer, now).await?;
        }
        if let Some(change) = &step.change {
            turned(&mut tx, rollout, change, now).await?;
        }
        progress(&mut tx, rollout.id, now).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(true)
    }
}

/// Whether a device was still in the state that it was seen in, and so has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    Done,
    Not,
}

/// Moves a device of a rollout, which is known by its id and version.
pub(super) async fn moved(
    tx: &mut Tx,
    rollout: (Uuid, &str),
    change: &MemberChange,
    now: DateTime<Utc>,
) -> Result<Moved, Error> {
    let (rollout_id, _) = rollout;
    let failed = i64::from(change.to.is_failure());
    let touched = tx
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
                rollout_id.into(),
                change.device_id.as_str().into(),
                change.from.as_str().into(),
            ],
        )
        .await?;
    if touched == 0 {
        return Ok(Moved::Not);
    }
    if change.to.is_over() {
        // It may have got the image by asking, while its command still waits for it.
        drop_command(tx, rollout_id, &change.device_id, now).await?;
    }
    if change.to == UpdateState::Confirmed {
        clear_fallbacks(tx, &change.device_id, now).await?;
    }
    tell(tx, rollout, &change.device_id, (change.to, change.detail.as_deref()), now).await?;
    Ok(Moved::Done)
}

async fn drop_command(
    tx: &mut Tx,
    rollout_id: Uuid,
    device_id: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let given: Option<(Option<Uuid>,)> = tx
        .fetch_optional(
            "SELECT request_id FROM rollout_devices WHERE rollout_id = $1 AND device_id = $2",
            vec![rollout_id.into(), device_id.into()],
        )
        .await?;
    match given.and_then(|(id,)| id) {
        Some(request_id) => take_back(tx, request_id, &By::system(now)).await.map(|_| ()),
        None => Ok(()),
    }
}

/// Puts a device's step into its events.
async fn tell(
    tx: &mut Tx,
    (rollout_id, version): (Uuid, &str),
    device_id: &str,
    (state, detail): (UpdateState, Option<&str>),
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let event = DeviceEvent {
        event_id: Uuid::now_v7(),
        device_id: device_id.to_owned(),
        event: "update".to_owned(),
        ts: now,
        recorded_at: now,
        status: None,
        previous: None,
        reason: Some(detail.map_or_else(
            || format!("{version} {}", state.as_str()),
            |detail| format!("{version} {}: {detail}", state.as_str()),
        )),
        detail: Some(json!({
            "rollout_id": rollout_id, "version": version, "state": state.as_str()
        })),
    };
    tx.emit(&Event::Device(Box::new(event)), now).await
}

async fn told(
    tx: &mut Tx,
    rollout: &RunningRollout,
    offer: &RolloutOffer,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let device_id = &offer.command.device_id;
    let touched = tx
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
    if touched == 0 {
        return Ok(());
    }
    let by = By { name: format!("rollout {}", rollout.id), ..By::system(now) };
    let (to, refused) = match give(tx, &offer.command, None, &by).await? {
        Given::Stored(accepted) | Given::Again(accepted, _) => {
            tx.execute(
                "UPDATE rollout_devices SET request_id = $1 WHERE rollout_id = $2 AND device_id = $3",
                vec![accepted.request_id.into(), rollout.id.into(), device_id.as_str().into()],
            )
            .await?;
            let of = (rollout.id, rollout.version.as_str());
            return tell(tx, of, device_id, (UpdateState::Offered, None), now).await;
        }
        Given::NotFound => (UpdateState::Cancelled, "the device was deleted".to_owned()),
        Given::Disabled => (UpdateState::Cancelled, "the device is disabled".to_owned()),
        Given::TooLarge { bytes, max } => {
            let text = format!("the command has {bytes} bytes, the device takes {max}");
            (UpdateState::Failed, text)
        }
    };
    let change = MemberChange {
        device_id: device_id.clone(),
        from: UpdateState::Offered,
        to,
        detail: Some(refused),
    };
    moved(tx, (rollout.id, &rollout.version), &change, now).await.map(|_| ())
}

async fn turned(
    tx: &mut Tx,
    rollout: &RunningRollout,
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
    let decision = (change.decision, change.reason.as_str(), change.figures.clone());
    decide(tx, rollout.id, now, decision).await
}

/// Keeps a decision with the figures that it was made on.
pub(super) async fn decide(
    tx: &mut Tx,
    rollout_id: Uuid,
    at: DateTime<Utc>,
    (decision, reason, figures): (&str, &str, Json),
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO rollout_decisions (id, rollout_id, at, decision, reason, figures)
         VALUES ($1, $2, $3, $4, $5, $6)",
        vec![
            Uuid::now_v7().into(),
            rollout_id.into(),
            at.into(),
            decision.into(),
            reason.into(),
            figures.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// Tells whoever listens how a rollout is.
pub(super) async fn progress(tx: &mut Tx, id: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
    let row: Option<(String, String, i64, Option<String>)> = tx
        .fetch_optional(
            "SELECT version, state, stage, reason FROM rollouts WHERE id = $1",
            vec![id.into()],
        )
        .await?;
    let Some((version, state, stage, reason)) = row else { return Ok(()) };
    let decisions: Option<(i64, i64)> = tx
        .fetch_optional(
            "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN decision IN ('resumed', 'retried')
                 THEN 1 ELSE 0 END), 0) AS BIGINT) AS resumed
             FROM rollout_decisions WHERE rollout_id = $1",
            vec![id.into()],
        )
        .await?;
    let (decisions, resumed) = decisions.unwrap_or_default();
    let devices = counts(tx, id).await?;
    let event = RolloutProgress {
        rollout_id: id,
        version,
        state: RolloutState::parse(&state).unwrap_or(RolloutState::Stopped),
        stage,
        progress: devices.line(),
        devices,
        reason,
        decisions,
        resumed,
        ts: now,
    };
    tx.emit(&Event::Rollout(Box::new(event)), now).await
}
