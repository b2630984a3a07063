//! What devices and `ingest` say about commands: applied in the transaction of the offsets.

use acuvim_schemas::{
    command::{CommandStatus, Delivery, Outcome},
    config::{Section, masked},
    payload::{Response, ResponseStatus},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::course::{Verdict, judge};
use crate::{Error, db::Tx};

/// The largest answer that is kept as it is, in bytes of JSON; the log has it whole, for its
/// retention.
const MOST_BYTES: usize = 256 << 10;

/// Answers that changed nothing which are kept of one device.
const KEPT: i64 = 100;

/// An answer as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Who sent it.
    pub device_id: String,
    /// When it came.
    pub at: DateTime<Utc>,
    /// What it says.
    pub response: Response,
}

#[derive(sqlx::FromRow)]
struct Asked {
    device_id: String,
    status: String,
    ack_timeout_s: i64,
    secret_params: Option<String>,
    config_section: Option<String>,
}

/// Moves a command on by an answer, or keeps an answer that changes nothing.
pub(crate) async fn answer(tx: &mut Tx, answer: &Answer) -> Result<(), Error> {
    let request_id = answer.response.request_id.parse::<Uuid>().ok();
    let asked: Option<Asked> = match request_id {
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
    let verdict = match &asked {
        None => Verdict::Unknown,
        Some(asked) if asked.device_id != answer.device_id => Verdict::WrongDevice,
        Some(asked) => {
            let now = CommandStatus::parse(&asked.status).unwrap_or(CommandStatus::Timeout);
            judge(now, answer.response.status)
        }
    };
    match (verdict, request_id, asked) {
        // Each only if nothing has ended it meanwhile: who deletes a device may have been first.
        (Verdict::Moves(CommandStatus::Ack), Some(id), Some(asked)) => tx
            .execute(
                "UPDATE commands SET status = 'ack', ack_at = $1, deadline = $2, waiting = $3
                 WHERE request_id = $4 AND status IN ('pending', 'sent')",
                vec![
                    answer.at.into(),
                    (answer.at + TimeDelta::seconds(asked.ack_timeout_s)).into(),
                    false.into(),
                    id.into(),
                ],
            )
            .await
            .map(|_| ()),
        (Verdict::Moves(status), Some(id), Some(asked)) => {
            if !finish(tx, id, status, answer).await? {
                return keep(tx, answer, Verdict::Repeated).await;
            }
            if status == CommandStatus::Success {
                note_config(tx, &asked, answer.at).await?;
            }
            Ok(())
        }
        _ => keep(tx, answer, verdict).await,
    }
}

/// False if it has ended meanwhile.
async fn finish(
    tx: &mut Tx,
    request_id: Uuid,
    status: CommandStatus,
    answer: &Answer,
) -> Result<bool, Error> {
    let error = match answer.response.status {
        ResponseStatus::Error => {
            Some(answer.response.error.clone().unwrap_or_else(|| "no reason given".to_owned()))
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
        tx.tell_command(request_id).await?;
    }
    Ok(ended == 1)
}

/// What was desired is reported from the device's own word on.
async fn note_config(tx: &mut Tx, asked: &Asked, at: DateTime<Utc>) -> Result<(), Error> {
    let section = asked.config_section.as_deref().and_then(Section::parse);
    let params: Option<Map<String, Json>> =
        asked.secret_params.as_deref().and_then(|text| serde_json::from_str(text).ok());
    match (section, params.as_ref().and_then(|p| p.get("values")).and_then(Json::as_object)) {
        (Some(section), Some(values)) => {
            tx.note_reported(&asked.device_id, section, values, at).await
        }
        _ => Ok(()),
    }
}

async fn keep(tx: &mut Tx, answer: &Answer, verdict: Verdict) -> Result<(), Error> {
    let request_id: String = answer.response.request_id.chars().take(64).collect();
    // An id in another spelling is the same id.
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
        vec![answer.device_id.as_str().into(), KEPT.into()],
    )
    .await
    .map(|_| ())
}

/// The answer as it is kept: secrets masked, and no larger than a row should be.
fn bounded(response: &Response) -> Json {
    let json = masked(json!(response));
    let bytes = json.to_string().len();
    if bytes <= MOST_BYTES {
        return json;
    }
    json!({"status": response.status, "too_large": true, "bytes": bytes})
}

/// Notes what `ingest` reports about a command.
pub(crate) async fn delivered(
    tx: &mut Tx,
    device_id: &str,
    delivery: Delivery,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let id = delivery.request_id;
    match delivery.outcome {
        Outcome::Sent => {
            tx.execute(
                "UPDATE commands SET sent_at = $1, waiting = $2,
                     status = CASE WHEN status = 'pending' THEN 'sent' ELSE status END
                 WHERE request_id = $3 AND device_id = $4 AND sent_at IS NULL",
                vec![at.into(), false.into(), id.into(), device_id.into()],
            )
            .await?
        }
        // Known for certain to be with nobody: it may be tried again when the device is heard.
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
