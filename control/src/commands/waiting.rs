//! Commands that wait: for their device, which lets them go, or for an answer, whose time runs out.

use std::collections::BTreeMap;

use acuvim_schemas::{api::Deliver, config::Section};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::give::{Given, NewCommand, give, release};
use crate::{By, DeviceNote, Error, db::Tx, stream::Resend, text::Statement};

/// Commands and devices that are looked at in one go.
const PAGE: i64 = 500;
const CHUNK: usize = 500;

/// How long a command that found nobody waits before it is tried again, unless the device came
/// back; and a configuration that was not confirmed.
const AGAIN: TimeDelta = TimeDelta::seconds(30);
const CONFIG_AGAIN: TimeDelta = TimeDelta::minutes(10);

/// Lets go what waits for devices that were heard; true if there was something.
pub(crate) async fn awake(
    tx: &mut Tx,
    heard: &[&DeviceNote],
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let mut any = false;
    for notes in heard.chunks(CHUNK) {
        let mut find = Statement::new(
            "SELECT c.request_id, c.device_id, c.nobody_at FROM commands c
             JOIN devices d ON d.device_id = c.device_id WHERE c.waiting",
        );
        find.push("AND d.enabled = ? AND c.device_id IN", [true.into()]);
        find.push_list(notes.iter().map(|note| (&note.device_id).into()));
        find.push("AND c.status = 'pending' AND c.expires_at > ?", [at.into()]);
        find.push("ORDER BY c.request_id LIMIT ?", [PAGE.into()]);
        let (text, values) = find.into_parts();
        let found: Vec<(Uuid, String, Option<DateTime<Utc>>)> = tx.fetch_all(text, values).await?;
        for (request_id, device_id, nobody_at) in found {
            let back = notes.iter().any(|note| note.back && note.device_id == device_id);
            if back || nobody_at.is_none_or(|tried| at - tried >= AGAIN) {
                release(tx, request_id, at).await?;
                any = true;
            }
        }
    }
    Ok(any)
}

/// Sends the configuration again that devices which were heard have yet to confirm: at once to one
/// that came back, to the others now and then.
pub(crate) async fn resend_config(
    tx: &mut Tx,
    heard: &[&DeviceNote],
    resend: &Resend,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let mut any = false;
    for notes in heard.chunks(CHUNK) {
        let mut find = Statement::new("SELECT DISTINCT device_id FROM configs WHERE device_id IN");
        find.push_list(notes.iter().map(|note| (&note.device_id).into()));
        find.push("AND desired IS NOT NULL AND (reported IS NULL OR reported <> desired)", []);
        let (text, values) = find.into_parts();
        let found: Vec<(String,)> = tx.fetch_all(text, values).await?;
        for (device_id,) in found {
            let back = notes.iter().any(|note| note.back && note.device_id == device_id);
            for (section, values) in tx.drift(&device_id).await? {
                if !tried_lately(tx, &device_id, section, back, at).await? {
                    any |= give_again(tx, &device_id, section, values, resend, at).await?;
                }
            }
        }
    }
    Ok(any)
}

/// Whether a section is on its way, or was, a while ago, to a device that was there all the time.
async fn tried_lately(
    tx: &mut Tx,
    device_id: &str,
    section: Section,
    back: bool,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let since = if back { at } else { at - CONFIG_AGAIN };
    let tried: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT COUNT(*) FROM commands WHERE device_id = $1 AND config_section = $2
                 AND (status IN ('pending', 'sent', 'ack') OR created_at > $3)",
            vec![device_id.into(), section.as_str().into(), since.into()],
        )
        .await?;
    Ok(tried.is_some_and(|(n,)| n > 0))
}

/// Gives a section again: in one command, or, if that is too large for the device, value by value.
async fn give_again(
    tx: &mut Tx,
    device_id: &str,
    section: Section,
    values: BTreeMap<String, Json>,
    resend: &Resend,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let by = By::system(at);
    let again = |values: Json| NewCommand {
        device_id: device_id.to_owned(),
        command: "set_config".to_owned(),
        params: [("section", json!(section.as_str())), ("values", values)]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect(),
        deliver: Deliver::Now,
        first_timeout_s: resend.first_timeout_s,
        ack_timeout_s: resend.ack_timeout_s,
        expires_s: resend.first_timeout_s,
        idempotency_key: None,
        topic_prefix: resend.topic_prefix.clone(),
        section: Some(section),
        desired: false,
        group_command: None,
    };
    match give(tx, &again(json!(values)), None, &by).await? {
        Given::Stored(_) => return Ok(true),
        Given::TooLarge { .. } if values.len() > 1 => {}
        _ => return Ok(false),
    }
    let mut any = false;
    for (key, value) in values {
        let one = again(json!({ key: value }));
        any |= matches!(give(tx, &one, None, &by).await?, Given::Stored(_));
    }
    Ok(any)
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
    // An answer may have ended it since it was found.
    let ended = tx
        .execute(
            "UPDATE commands SET status = 'timeout', error = $1, finished_at = $2, deadline = NULL,
             waiting = $3, secret_params = NULL
         WHERE request_id = $4 AND status IN ('pending', 'sent', 'ack') AND deadline = $2",
            vec![reason.into(), due.deadline.into(), false.into(), due.request_id.into()],
        )
        .await?;
    if ended > 0 {
        tx.tell_command(due.request_id).await?;
    }
    tx.execute(
        "DELETE FROM outbox WHERE request_id = $1 AND seq IS NULL",
        vec![due.request_id.into()],
    )
    .await
    .map(|_| ())
}
