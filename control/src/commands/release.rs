//! Sending a command: putting it into the outbox.

use acuvim_model::Deliver;
use acuvim_wire::command::Command;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::{db::Tx, error::Error};

#[derive(sqlx::FromRow)]
struct PendingCommand {
    device_id: String,
    command: String,
    secret_params: Option<String>,
    deliver: String,
    attempt: i64,
    first_timeout_s: i64,
    expires_at: DateTime<Utc>,
}

/// Puts a pending command into the outbox, with the time after which the device must not run it.
pub(super) async fn release(tx: &mut Tx, request_id: Uuid, at: DateTime<Utc>) -> Result<(), Error> {
    let ready: Option<PendingCommand> = tx
        .fetch_optional(
            "SELECT device_id, command, secret_params, deliver, attempt, first_timeout_s, expires_at
             FROM commands WHERE request_id = $1 AND status = 'pending'",
            vec![request_id.into()],
        )
        .await?;
    let Some(ready) = ready else { return Ok(()) };
    let answer_by = at + TimeDelta::seconds(ready.first_timeout_s);
    // A command that is to be done now keeps the deadline from when it was given.
    let deadline = match Deliver::parse(&ready.deliver) {
        Some(Deliver::WhenOnline) => answer_by,
        _ => ready.expires_at,
    };
    let expires = deadline.min(ready.expires_at);
    let params = ready.secret_params.as_deref().unwrap_or("{}");
    let params: Map<String, Json> = serde_json::from_str(params)
        .map_err(|e| Error::stored("the stored parameters of a command", e))?;
    let body = Command::payload(request_id, &ready.command, &params, expires.timestamp_micros());
    // The number tells reports on this delivery from late reports on an earlier one.
    let attempt = ready.attempt + 1;
    let released = tx
        .execute(
            "UPDATE commands SET waiting = $1, deadline = $2, attempt = $3
             WHERE request_id = $4 AND status = 'pending'",
            vec![false.into(), deadline.into(), attempt.into(), request_id.into()],
        )
        .await?;
    if released == 0 {
        return Ok(());
    }
    tx.execute(
        "INSERT INTO outbox (id, device_id, request_id, body, expires_at, attempt)
         VALUES ($1, $2, $3, $4, $5, $6)",
        vec![
            Uuid::now_v7().into(),
            ready.device_id.into(),
            request_id.into(),
            body.into(),
            expires.into(),
            attempt.into(),
        ],
    )
    .await
    .map(|_| ())
}
