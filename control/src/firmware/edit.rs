//! What people change of releases and rollouts.

use acuvim_schemas::api::{Firmware, FirmwareEdit, RolloutPlan, RolloutState, UpdateState};
use chrono::TimeDelta;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    FirmwareDeleted,
    apply::{decide, progress},
    list::counts,
};
use crate::{By, Control, Error, ErrorKind, db::Tx, text::Statement};

/// What a person does to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutVerb {
    /// Holds it: nobody is told any more, and who was told and is away is not told after all.
    Pause,
    /// Lets it go on, also one that stopped.
    Resume,
    /// Ends it.
    Abort,
    /// Begins again with the devices that failed or were not reached.
    Retry,
}

/// What became of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutChanged {
    /// It is so.
    Done,
    /// There is no such rollout.
    NotFound,
    /// It can't be, and why.
    Refused(String),
}

impl Control {
    /// Changes a release; none if there is none of that version.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn edit_firmware(
        &self,
        version: &str,
        edit: &FirmwareEdit,
        by: &By,
    ) -> Result<Option<Firmware>, Error> {
        let mut tx = self.begin().await?;
        let changed = tx
            .execute(
                "UPDATE firmware SET active = COALESCE($1, active),
                     release_notes = COALESCE($2, release_notes),
                     mandatory = COALESCE($3, mandatory), updated_at = $4
                 WHERE version = $5",
                vec![
                    edit.active.into(),
                    edit.release_notes.clone().into(),
                    edit.mandatory.into(),
                    by.at.into(),
                    version.into(),
                ],
            )
            .await?;
        if changed == 0 {
            return Ok(None);
        }
        tx.audit(by, "firmware.edit", version, json!(edit)).await?;
        tx.commit().await?;
        Ok(self.firmware(version).await?.map(|stored| stored.firmware))
    }

    /// Deletes a release, unless a rollout or a device needs it; forced, whatever needs it. Its bytes
    /// are the caller's to remove.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn delete_firmware(
        &self,
        version: &str,
        force: bool,
        by: &By,
    ) -> Result<FirmwareDeleted, Error> {
        let mut tx = self.begin().await?;
        let found: Option<(String,)> = tx
            .fetch_optional("SELECT object FROM firmware WHERE version = $1", vec![version.into()])
            .await?;
        let Some((object,)) = found else { return Ok(FirmwareDeleted::NotFound) };
        if !force && let Some(needed) = needed(&mut tx, version).await? {
            return Ok(FirmwareDeleted::Needed(needed));
        }
        tx.execute("DELETE FROM firmware WHERE version = $1", vec![version.into()]).await?;
        tx.audit(by, "firmware.delete", version, json!({ "force": force })).await?;
        tx.commit().await?;
        Ok(FirmwareDeleted::Done(object))
    }

    /// Pauses, resumes, aborts or retries a rollout.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn change_rollout(
        &self,
        id: Uuid,
        verb: RolloutVerb,
        by: &By,
    ) -> Result<RolloutChanged, Error> {
        let mut tx = self.begin().await?;
        // Whoever stores a step of it waits, or finds it changed.
        tx.execute(
            "UPDATE rollouts SET updated_at = $1 WHERE id = $2",
            vec![by.at.into(), id.into()],
        )
        .await?;
        let found: Option<(String, String)> = tx
            .fetch_optional("SELECT state, version FROM rollouts WHERE id = $1", vec![id.into()])
            .await?;
        let Some((state, version)) = found else { return Ok(RolloutChanged::NotFound) };
        let state = RolloutState::parse(&state).unwrap_or(RolloutState::Stopped);
        let refused =
            |what: &str| Ok(RolloutChanged::Refused(format!("it is {} {what}", state.as_str())));
        let (next, decision, reason) = match (verb, state) {
            (RolloutVerb::Pause, RolloutState::Running) => {
                withdraw(&mut tx, id, UpdateState::Waiting, by).await?;
                (RolloutState::Paused, "paused", format!("{} paused it", by.name))
            }
            (RolloutVerb::Resume, RolloutState::Paused | RolloutState::Stopped) => {
                revive(&mut tx, id, &[UpdateState::Cancelled], by).await?;
                extend(&mut tx, id, by).await?;
                // Who lets one go on that stopped has seen why; a pause says nothing of failures.
                if state == RolloutState::Stopped {
                    let seen = counts(&mut tx, id).await?.failures();
                    forgive(&mut tx, id, seen).await?;
                }
                (RolloutState::Running, "resumed", format!("{} let it go on", by.name))
            }
            (RolloutVerb::Abort, state) if !state.is_over() => {
                withdraw(&mut tx, id, UpdateState::Cancelled, by).await?;
                end(&mut tx, id, by).await?;
                (RolloutState::Aborted, "aborted", format!("{} ended it", by.name))
            }
            (RolloutVerb::Retry, state) if state != RolloutState::Aborted => {
                let again = revive(&mut tx, id, &AGAIN, by).await?;
                if again == 0 {
                    return refused("and has no device to try again that is in no other rollout");
                }
                extend(&mut tx, id, by).await?;
                forgive(&mut tx, id, 0).await?;
                let reason = format!("{} devices begin again, by {}", again, by.name);
                (RolloutState::Running, "retried", reason)
            }
            _ => return refused("already"),
        };
        tx.execute(
            "UPDATE rollouts SET state = $1, reason = $2, updated_at = $3, soak_since = NULL
             WHERE id = $4",
            vec![next.as_str().into(), reason.as_str().into(), by.at.into(), id.into()],
        )
        .await?;
        decide(&mut tx, id, by.at, (decision, &reason, json!({}))).await?;
        let detail = json!({ "version": version, "from": state.as_str() });
        tx.audit(by, &format!("rollout.{decision}"), &id.to_string(), detail).await?;
        progress(&mut tx, id, by.at).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(RolloutChanged::Done)
    }
}

/// Who needs a release, in words.
async fn needed(tx: &mut Tx, version: &str) -> Result<Option<String>, Error> {
    let rollouts: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT COUNT(*) FROM rollouts WHERE version = $1
                 AND state IN ('running', 'paused', 'stopped')",
            vec![version.into()],
        )
        .await?;
    if let Some((n,)) = rollouts.filter(|(n,)| *n > 0) {
        return Ok(Some(format!("{n} rollouts of it are not over")));
    }
    let devices: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT COUNT(*) FROM devices WHERE firmware_version = $1",
            vec![version.into()],
        )
        .await?;
    Ok(devices.filter(|(n,)| *n > 0).map(|(n,)| format!("{n} devices run it")))
}

/// Takes back what was told to devices that have not taken it.
pub(super) async fn withdraw(
    tx: &mut Tx,
    id: Uuid,
    then: UpdateState,
    by: &By,
) -> Result<u64, Error> {
    let offered: Vec<(String, Uuid)> = tx
        .fetch_all(
            "SELECT r.device_id, r.request_id FROM rollout_devices r
             JOIN commands c ON c.request_id = r.request_id
             WHERE r.rollout_id = $1 AND r.active AND c.status = 'pending'",
            vec![id.into()],
        )
        .await?;
    let mut taken_back = 0;
    for (device_id, request_id) in &offered {
        if !take_back(tx, *request_id, by).await? {
            continue;
        }
        tx.execute(
            "UPDATE rollout_devices SET state = $1, since = $2, request_id = NULL, active = $3
             WHERE rollout_id = $4 AND device_id = $5 AND state = 'offered'",
            vec![
                then.as_str().into(),
                by.at.into(),
                (!then.is_over()).into(),
                id.into(),
                device_id.as_str().into(),
            ],
        )
        .await?;
        taken_back += 1;
    }
    Ok(taken_back)
}

/// Ends a command that is still here; one that has a number in the outbox may be with the broker.
pub(super) async fn take_back(tx: &mut Tx, request_id: Uuid, by: &By) -> Result<bool, Error> {
    let unsent = tx
        .execute(
            "DELETE FROM outbox WHERE request_id = $1 AND seq IS NULL",
            vec![request_id.into()],
        )
        .await?;
    let ended = tx
        .execute(
            "UPDATE commands SET status = 'error', error = $1, finished_at = $2, deadline = NULL,
                 waiting = $3, secret_params = NULL
             WHERE request_id = $4 AND status = 'pending' AND (waiting = $5 OR $6)",
            vec![
                "it was taken back: the rollout does not go on".into(),
                by.at.into(),
                false.into(),
                request_id.into(),
                true.into(),
                (unsent > 0).into(),
            ],
        )
        .await?;
    if ended > 0 {
        tx.tell_command(request_id).await?;
    }
    Ok(ended > 0)
}

/// Ends every device that has not ended.
async fn end(tx: &mut Tx, id: Uuid, by: &By) -> Result<(), Error> {
    tx.execute(
        "UPDATE rollout_devices SET state = 'cancelled', since = $1, active = $2
         WHERE rollout_id = $3 AND active",
        vec![by.at.into(), false.into(), id.into()],
    )
    .await
    .map(|_| ())
}

/// What is tried again: what failed, and what was not reached.
const AGAIN: [UpdateState; 4] =
    [UpdateState::Failed, UpdateState::RolledBack, UpdateState::Silent, UpdateState::Cancelled];

/// Brings devices in some states back to the start, but for those that are in another rollout.
async fn revive(tx: &mut Tx, id: Uuid, states: &[UpdateState], by: &By) -> Result<u64, Error> {
    let mut back = Statement::new(
        "UPDATE rollout_devices SET state = 'waiting', detail = NULL, request_id = NULL,",
    );
    back.push(
        "since = ?, fetched_some = ?, fetched_all = ?, refused = ?, active = ?",
        [by.at.into(), false.into(), false.into(), false.into(), true.into()],
    );
    back.push("WHERE rollout_id = ? AND state IN", [id.into()]);
    back.push_list(states.iter().map(|state| state.as_str().into()));
    back.push(
        "AND device_id NOT IN (SELECT o.device_id FROM rollout_devices o WHERE o.active)",
        [],
    );
    let (text, values) = back.into_parts();
    tx.execute(text, values).await
}

/// So many failures count no more.
async fn forgive(tx: &mut Tx, id: Uuid, failures: i64) -> Result<(), Error> {
    let text = "UPDATE rollouts SET forgiven = $1 WHERE id = $2";
    tx.execute(text, vec![failures.into(), id.into()]).await.map(|_| ())
}

/// Gives a rollout its time anew.
async fn extend(tx: &mut Tx, id: Uuid, by: &By) -> Result<(), Error> {
    let plan: Option<(Json,)> =
        tx.fetch_optional("SELECT plan FROM rollouts WHERE id = $1", vec![id.into()]).await?;
    let plan = plan.map(|(plan,)| serde_json::from_value::<RolloutPlan>(plan));
    let plan = plan
        .transpose()
        .map_err(|e| Error::new(ErrorKind::Internal, format!("a stored plan: {e}")))?;
    let seconds = plan.unwrap_or_default().deadline_seconds;
    tx.execute(
        "UPDATE rollouts SET deadline_at = $1 WHERE id = $2",
        vec![(by.at + TimeDelta::seconds(i64::from(seconds))).into(), id.into()],
    )
    .await
    .map(|_| ())
}
