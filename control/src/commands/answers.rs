//! Answers of devices, and what `ingest` reports about the delivery of commands.

use acuvim_model::CommandStatus;
use acuvim_wire::{
    command::{Delivery, Outcome},
    config::{Section, masked},
    payload::{Response, ResponseStatus},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::verdict::{Verdict, verdict};
use crate::{db::Tx, error::Error};

/// The largest answer that is stored, in bytes of JSON. The event of the end repeats it, and Kafka refuses
/// records above 1 MiB unless it is told otherwise. The log has larger answers, until its retention.
const MAX_BYTES: usize = 256 << 10;

/// Characters of an error message that are shown. The stored answer has all of it.
const MAX_ERROR: usize = 500;

/// Answers without effect that are kept of one device, so that a device which answers in a loop does not
/// fill the database.
const MAX_KEPT: i64 = 100;

/// An answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The device that sent it.
    pub device_id: String,
    /// When it arrived.
    pub at: DateTime<Utc>,
    /// The answer as the device sent it.
    pub response: Response,
}

#[derive(sqlx::FromRow)]
struct AnsweredCommand {
    device_id: String,
    status: String,
    ack_timeout_s: i64,
    secret_params: Option<String>,
    config_section: Option<String>,
}

/// Moves a command forward by an answer, or keeps the answer if it has no effect.
pub(crate) async fn apply_answer(tx: &mut Tx, answer: &Answer) -> Result<(), Error> {
    let request_id = answer.response.request_id.parse::<Uuid>().ok();
    let command: Option<AnsweredCommand> = match request_id {
        Some(id) => {
            tx.fetch_optional(
                "SELECT device_id, status, ack_timeout_s, secret_params, config_section
                 FROM commands WHERE request_id = $1",
                vec![id.into()],
            )
            .await?
        }
        None => None,
    };
    let verdict = match &command {
        None => Verdict::Unknown,
        Some(command) if command.device_id != answer.device_id => Verdict::WrongDevice,
        Some(command) => {
            let now = CommandStatus::parse(&command.status).unwrap_or(CommandStatus::Timeout);
            verdict(now, answer.response.status)
        }
    };
    match (verdict, request_id, command) {
        // Only while it is open: deleting its device may have ended it concurrently.
        (Verdict::Moves(CommandStatus::Ack), Some(id), Some(command)) => tx
            .execute(
                "UPDATE commands SET status = 'ack', ack_at = $1, deadline = $2, waiting = $3
                 WHERE request_id = $4 AND status IN ('pending', 'sent')",
                vec![
                    answer.at.into(),
                    (answer.at + TimeDelta::seconds(command.ack_timeout_s)).into(),
                    false.into(),
                    id.into(),
                ],
            )
            .await
            .map(|_| ()),
        (Verdict::Moves(status), Some(id), Some(command)) => {
            if !finish(tx, id, status, answer).await? {
                return keep(tx, answer, Verdict::Repeated).await;
            }
            if status == CommandStatus::Success {
                note_config(tx, &command, answer.at).await?;
            }
            Ok(())
        }
        _ => keep(tx, answer, verdict).await,
    }
}

/// Ends a command with an answer. False if it has ended already.
async fn finish(
    tx: &mut Tx,
    request_id: Uuid,
    status: CommandStatus,
    answer: &Answer,
) -> Result<bool, Error> {
    let error = match answer.response.status {
        ResponseStatus::Error => {
            let text = answer.response.error.as_deref().unwrap_or("no reason given");
            // The event of the end repeats it, and the log refuses records that are too large.
            Some(text.chars().take(MAX_ERROR).collect::<String>())
        }
        _ => None,
    };
    let ended = tx
        .execute(
            "UPDATE commands SET status = $1, finished_at = $2, response = $3, error = $4,
             deadline = NULL, waiting = $5, secret_params = NULL
         WHERE request_id = $6 AND status IN ('pending', 'sent', 'ack')",
            vec![
                status.as_str().into(),
                answer.at.into(),
                bounded(&answer.response).into(),
                error.into(),
                false.into(),
                request_id.into(),
            ],
        )
        .await?;
    if ended == 1 {
        tx.emit_command(request_id).await?;
    }
    Ok(ended == 1)
}

/// Notes the values of a configuration command as reported, now that the device has confirmed them.
async fn note_config(
    tx: &mut Tx,
    command: &AnsweredCommand,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let section = command.config_section.as_deref().and_then(Section::parse);
    let params: Option<Map<String, Json>> =
        command.secret_params.as_deref().and_then(|text| serde_json::from_str(text).ok());
    match (section, params.as_ref().and_then(|p| p.get("values")).and_then(Json::as_object)) {
        (Some(section), Some(values)) => {
            tx.note_reported(&command.device_id, section, values, at).await
        }
        _ => Ok(()),
    }
}

/// Keeps an answer that has no effect.
async fn keep(tx: &mut Tx, answer: &Answer, verdict: Verdict) -> Result<(), Error> {
    let request_id: String = answer.response.request_id.chars().take(64).collect();
    // In canonical form, because a device may write the id in upper case.
    let request_id = request_id.parse::<Uuid>().map_or(request_id, |id| id.to_string());
    tx.execute(
        "INSERT INTO command_answers (id, request_id, device_id, at, verdict, answer)
         VALUES ($1, $2, $3, $4, $5, $6)",
        vec![
            Uuid::now_v7().into(),
            request_id.into(),
            answer.device_id.as_str().into(),
            answer.at.into(),
            verdict.as_str().into(),
            bounded(&answer.response).into(),
        ],
    )
    .await?;
    tx.execute(
        "DELETE FROM command_answers WHERE device_id = $1 AND id <=
             (SELECT id FROM command_answers WHERE device_id = $1 ORDER BY id DESC
              LIMIT 1 OFFSET $2)",
        vec![answer.device_id.as_str().into(), MAX_KEPT.into()],
    )
    .await
    .map(|_| ())
}

/// The answer as it is stored: with secrets masked, and limited in size.
fn bounded(response: &Response) -> Json {
    let json = masked(json!(response));
    let bytes = json.to_string().len();
    if bytes <= MAX_BYTES {
        return json;
    }
    json!({"status": response.status, "too_large": true, "bytes": bytes})
}

/// Notes what `ingest` reports about the delivery of a command.
pub(crate) async fn apply_delivery(
    tx: &mut Tx,
    device_id: &str,
    delivery: Delivery,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let id = delivery.request_id;
    match delivery.outcome {
        // The first report counts. It may be read after the answer, so the status only moves from
        // `pending`.
        Outcome::Sent => {
            tx.execute(
                "UPDATE commands SET sent_at = $1, waiting = $2,
                     status = CASE WHEN status = 'pending' THEN 'sent' ELSE status END
                 WHERE request_id = $3 AND device_id = $4 AND sent_at IS NULL",
                vec![at.into(), false.into(), id.into(), device_id.into()],
            )
            .await?
        }
        // Certainly not delivered, so it can be sent again once a message of the device arrives.
        Outcome::NoSubscriber => {
            tx.execute(
                "UPDATE commands SET waiting = $1, nobody_at = $2,
                     deadline = CASE WHEN deliver = 'when_online' THEN expires_at ELSE deadline END
                 WHERE request_id = $3 AND device_id = $4 AND attempt = $5 AND status = 'pending'",
                vec![true.into(), at.into(), id.into(), device_id.into(), delivery.attempt.into()],
            )
            .await?
        }
    };
    Ok(())
}
