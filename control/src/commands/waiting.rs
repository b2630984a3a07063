//! Commands that wait: for their device, which lets them go, or for an answer, whose time runs out.

use acuvim_schemas::{api::Deliver, config::Section};
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::give::{NewCommand, give, release};
use crate::{By, Error, db::Tx, stream::Resend, text::Statement};

/// Commands that are looked at in one go.
const PAGE: i64 = 500;

/// Lets go what waits for devices that were heard; true if there was something.
pub(crate) async fn awake(
    tx: &mut Tx,
    devices: &[String],
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let mut any = false;
    for devices in devices.chunks(PAGE as usize) {
        let mut find = Statement::new("SELECT request_id FROM commands WHERE waiting");
        find.push("AND device_id IN", []);
        find.push_list(devices.iter().map(Into::into));
        find.push("AND status = 'pending' AND expires_at > ? ORDER BY request_id", [at.into()]);
        let (text, values) = find.into_parts();
        let found: Vec<(Uuid,)> = tx.fetch_all(text, values).await?;
        for (request_id,) in found {
            release(tx, request_id, at).await?;
            any = true;
        }
    }
    Ok(any)
}

/// Sends the configuration again that a device which came back has yet to confirm.
pub(crate) async fn resend_config(
    tx: &mut Tx,
    device_id: &str,
    resend: &Resend,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let mut any = false;
    for (section, values) in tx.drift(device_id).await? {
        let open: Option<(i64,)> = tx
            .fetch_optional(
                "SELECT COUNT(*) FROM commands WHERE device_id = $1 AND config_section = $2
                     AND status IN ('pending', 'sent', 'ack')",
                vec![device_id.into(), section.as_str().into()],
            )
            .await?;
        if open.is_some_and(|(n,)| n > 0) {
            continue;
        }
        let mut params = serde_json::Map::new();
        params.insert("section".into(), section.as_str().into());
        params.insert("values".into(), json!(values));
        let again = NewCommand {
            device_id: device_id.to_owned(),
            command: "set_config".to_owned(),
            params,
            deliver: Deliver::Now,
            first_timeout_s: resend.first_timeout_s,
            ack_timeout_s: resend.ack_timeout_s,
            expires_s: resend.first_timeout_s,
            idempotency_key: None,
            topic_prefix: resend.topic_prefix.clone(),
            section: None,
            group_command: None,
        };
        any |= give_again(tx, &again, section, &By::system(at)).await?;
    }
    Ok(any)
}

async fn give_again(
    tx: &mut Tx,
    again: &NewCommand,
    section: Section,
    by: &By,
) -> Result<bool, Error> {
    let super::Given::Stored(accepted) = give(tx, again, None, by).await? else {
        return Ok(false);
    };
    tx.execute(
        "UPDATE commands SET config_section = $1 WHERE request_id = $2",
        vec![section.as_str().into(), accepted.request_id.into()],
    )
    .await?;
    Ok(true)
}

#[derive(sqlx::FromRow)]
struct Due {
    request_id: Uuid,
    device_id: String,
    status: String,
    deliver: String,
    waiting: bool,
    deadline: DateTime<Utc>,
}

/// Ends the commands whose time is over, of the devices that are this caller's.
pub(crate) async fn expire(
    tx: &mut Tx,
    until: DateTime<Utc>,
    ours: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<usize, Error> {
    let (mut ended, mut behind) = (0, (DateTime::UNIX_EPOCH, Uuid::nil()));
    loop {
        let due: Vec<Due> = tx
            .fetch_all(
                "SELECT request_id, device_id, status, deliver, waiting, deadline FROM commands
                 WHERE deadline <= $1 AND (deadline, request_id) > ($2, $3)
                     AND status IN ('pending', 'sent', 'ack')
                 ORDER BY deadline, request_id LIMIT $4",
                vec![until.into(), behind.0.into(), behind.1.into(), PAGE.into()],
            )
            .await?;
        let Some(last) = due.last() else { return Ok(ended) };
        behind = (last.deadline, last.request_id);
        for command in due.iter().filter(|command| ours(&command.device_id)) {
            end(tx, command).await?;
            ended += 1;
        }
    }
}

async fn end(tx: &mut Tx, due: &Due) -> Result<(), Error> {
    let reason = match (due.status.as_str(), Deliver::parse(&due.deliver)) {
        ("pending", Some(Deliver::WhenOnline)) if due.waiting => {
            "the device did not come online in time"
        }
        ("pending", _) if due.waiting => "the device is not connected",
        ("pending", _) => "nobody took it for the device in time",
        ("sent", _) => "the device took it and did not answer in time",
        _ => "the device began and did not finish in time",
    };
    tx.execute(
        "UPDATE commands SET status = 'timeout', error = $1, finished_at = $2, deadline = NULL,
             waiting = $3, secret_params = NULL
         WHERE request_id = $4",
        vec![reason.into(), due.deadline.into(), false.into(), due.request_id.into()],
    )
    .await?;
    tx.execute(
        "DELETE FROM outbox WHERE request_id = $1 AND seq IS NULL",
        vec![due.request_id.into()],
    )
    .await
    .map(|_| ())
}
