//! What people do to a rollout: pause, resume, abort and retry it.

use acuvim_model::{RolloutPlan, RolloutState, UpdateState};
use chrono::TimeDelta;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    progress::{Decision, counts, decide, emit_progress},
    withdraw::withdraw,
};
use crate::{
    audit::By,
    db::{Control, Tx},
    error::Error,
    statement::Statement,
};

/// What a person does to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutVerb {
    /// Hold it: no more commands are sent, and undelivered ones are taken back.
    Pause,
    /// Let it go on, also after it stopped.
    Resume,
    /// End it for good.
    Abort,
    /// Start again with the devices that failed or were not reached.
    Retry,
}

/// The outcome of changing a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutChanged {
    /// The rollout was changed.
    Done,
    /// There is no such rollout.
    NotFound,
    /// Its state does not allow the change; with the reason.
    Refused(String),
}

/// A change that is allowed: the state that it leads to, and the decision to store.
struct Accepted {
    state: RolloutState,
    decision: &'static str,
    reason: String,
}

impl Control {
    /// Pauses, resumes, aborts or retries a rollout.
    pub async fn change_rollout(
        &self,
        id: Uuid,
        verb: RolloutVerb,
        by: &By,
    ) -> Result<RolloutChanged, Error> {
        let mut tx = self.begin().await?;
        // First of all, so that the transaction of a step either waits for this one, or finds the
        // rollout changed and stores nothing.
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
        let accepted = match change(&mut tx, id, state, verb, by).await? {
            Ok(accepted) => accepted,
            Err(refusal) => {
                return Ok(RolloutChanged::Refused(format!("it is {} {refusal}", state.as_str())));
            }
        };
        let Accepted { state: next, decision, reason } = accepted;
        tx.execute(
            "UPDATE rollouts SET state = $1, reason = $2, updated_at = $3, soak_since = NULL
             WHERE id = $4",
            vec![next.as_str().into(), reason.as_str().into(), by.at.into(), id.into()],
        )
        .await?;
        let stored = Decision { name: decision, reason: &reason, figures: json!({}) };
        decide(&mut tx, id, by.at, stored).await?;
        let detail = json!({ "version": version, "from": state.as_str() });
        tx.audit(by, &format!("rollout.{decision}"), &id.to_string(), detail).await?;
        emit_progress(&mut tx, id, by.at).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(RolloutChanged::Done)
    }
}

/// Changes the devices and counters of a rollout; the inner error says why the change is refused.
async fn change(
    tx: &mut Tx,
    id: Uuid,
    state: RolloutState,
    verb: RolloutVerb,
    by: &By,
) -> Result<Result<Accepted, &'static str>, Error> {
    let (state, decision, reason) = match (verb, state) {
        (RolloutVerb::Pause, RolloutState::Running) => {
            withdraw(tx, id, UpdateState::Waiting, by).await?;
            (RolloutState::Paused, "paused", format!("{} paused it", by.name))
        }
        (RolloutVerb::Resume, RolloutState::Paused | RolloutState::Stopped) => {
            revive(tx, id, &[UpdateState::Cancelled], by).await?;
            extend(tx, id, by).await?;
            // Whoever resumes a stopped rollout has seen why it stopped. Resuming a paused one says
            // nothing about its failures, so they go on counting.
            if state == RolloutState::Stopped {
                let seen = counts(tx, id).await?.failures();
                forgive(tx, id, seen).await?;
            }
            (RolloutState::Running, "resumed", format!("{} let it go on", by.name))
        }
        (RolloutVerb::Abort, state) if !state.is_over() => {
            withdraw(tx, id, UpdateState::Cancelled, by).await?;
            cancel_devices(tx, id, by).await?;
            (RolloutState::Aborted, "aborted", format!("{} ended it", by.name))
        }
        (RolloutVerb::Retry, state) if state != RolloutState::Aborted => {
            let again = revive(tx, id, &RETRIED, by).await?;
            if again == 0 {
                return Ok(Err("and has no device to try again that is in no other rollout"));
            }
            extend(tx, id, by).await?;
            forgive(tx, id, 0).await?;
            let reason = format!("{} devices begin again, by {}", again, by.name);
            (RolloutState::Running, "retried", reason)
        }
        _ => return Ok(Err("already")),
    };
    Ok(Ok(Accepted { state, decision, reason }))
}

/// Cancels every device that is not done.
async fn cancel_devices(tx: &mut Tx, id: Uuid, by: &By) -> Result<(), Error> {
    tx.execute(
        "UPDATE rollout_devices SET state = 'cancelled', since = $1, active = $2
         WHERE rollout_id = $3 AND active",
        vec![by.at.into(), false.into(), id.into()],
    )
    .await
    .map(|_| ())
}

/// The states that a retry starts again from.
const RETRIED: [UpdateState; 4] =
    [UpdateState::Failed, UpdateState::RolledBack, UpdateState::Silent, UpdateState::Cancelled];

/// Moves devices in these states back to the start, apart from those that another rollout has.
/// Returns their number.
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

/// Sets the number of failures that no longer count.
async fn forgive(tx: &mut Tx, id: Uuid, failures: i64) -> Result<(), Error> {
    let text = "UPDATE rollouts SET forgiven = $1 WHERE id = $2";
    tx.execute(text, vec![failures.into(), id.into()]).await.map(|_| ())
}

/// Starts the deadline of a rollout again.
async fn extend(tx: &mut Tx, id: Uuid, by: &By) -> Result<(), Error> {
    let plan: Option<(Json,)> =
        tx.fetch_optional("SELECT plan FROM rollouts WHERE id = $1", vec![id.into()]).await?;
    let plan = plan.map(|(plan,)| serde_json::from_value::<RolloutPlan>(plan)).transpose();
    let plan = plan.map_err(|e| Error::stored("a stored plan", e))?;
    let seconds = plan.unwrap_or_default().deadline_seconds;
    tx.execute(
        "UPDATE rollouts SET deadline_at = $1 WHERE id = $2",
        vec![(by.at + TimeDelta::seconds(i64::from(seconds))).into(), id.into()],
    )
    .await
    .map(|_| ())
}
