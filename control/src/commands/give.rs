//! Giving a command: its row and, once it may go, its row in the outbox, in one transaction.

use acuvim_schemas::{
    api::{CommandAccepted, Deliver, DeviceStatus, Scope},
    command::{Command, CommandStatus, packet_bytes},
    config::{Section, masked},
    topic,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::{By, Control, Error, ErrorKind, db::Tx};

/// The largest MQTT packet of a device that did not say, in bytes.
const DEFAULT_PACKET: i64 = 1024;

/// How long an idempotency key is remembered.
const KEY_HOLDS: TimeDelta = TimeDelta::days(1);

/// A command to be given; what it takes has been checked.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// For whom.
    pub device_id: String,
    /// What.
    pub command: String,
    /// With what.
    pub params: Map<String, Json>,
    /// When it may go.
    pub deliver: Deliver,
    /// Seconds to the first answer.
    pub first_timeout_s: i64,
    /// Seconds from an `ack` to the last answer.
    pub ack_timeout_s: i64,
    /// Seconds that it waits for the device.
    pub expires_s: i64,
    /// The same again is not given again.
    pub idempotency_key: Option<String>,
    /// What the topics begin with, for the packet's size.
    pub topic_prefix: String,
    /// The section of the configuration that it sets.
    pub section: Option<Section>,
    /// Whether what it sets is what is desired from now on, and not only sent again.
    pub desired: bool,
    /// The command to a group that it is part of.
    pub group_command: Option<Uuid>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// It is stored.
    Stored(CommandAccepted),
    /// It was given before, under the same key, and then as part of this command to a group.
    Again(CommandAccepted, Option<Uuid>),
    /// There is no such device in the scope.
    NotFound,
    /// The device is disabled.
    Disabled,
    /// Its packet is larger than the device takes.
    TooLarge {
        /// Bytes of the packet.
        bytes: i64,
        /// What the device takes.
        max: i64,
    },
}

impl Control {
    /// Gives a command.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn give_command(
        &self,
        new: &NewCommand,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<Given, Error> {
        match self.try_give(new, scope, by).await {
            // The same key at the same moment: the other was first.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.try_give(new, scope, by).await
            }
            given => given,
        }
    }

    async fn try_give(
        &self,
        new: &NewCommand,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<Given, Error> {
        let mut tx = self.begin().await?;
        let given = give(&mut tx, new, scope, by).await?;
        if let Given::Stored(accepted) = &given {
            let detail = json!({
                "command": new.command, "params": new.params, "request_id": accepted.request_id
            });
            tx.audit(by, "command.give", &new.device_id, detail).await?;
            tx.commit().await?;
            self.outbox.notify_one();
        }
        Ok(given)
    }
}

/// Gives a command in a transaction.
pub(crate) async fn give(
    tx: &mut Tx,
    new: &NewCommand,
    scope: Option<&Scope>,
    by: &By,
) -> Result<Given, Error> {
    let Some(device) = tx.device(&new.device_id, scope).await? else { return Ok(Given::NotFound) };
    if !device.enabled {
        return Ok(Given::Disabled);
    }
    let key = new.idempotency_key.as_ref().map(|key| keyed(key, by));
    if let Some(key) = &key
        && let Some(again) = given_before(tx, &new.device_id, key, by.at).await?
    {
        return Ok(again);
    }
    let request_id = Uuid::now_v7();
    let topic = topic::command(&new.topic_prefix, &new.device_id);
    let payload =
        Command::payload(request_id, &new.command, &new.params, i64::from(u32::MAX) << 20);
    let bytes = i64::try_from(packet_bytes(&topic, &payload)).unwrap_or(i64::MAX);
    let max = device.max_packet_bytes.unwrap_or(DEFAULT_PACKET);
    if bytes > max {
        return Ok(Given::TooLarge { bytes, max });
    }
    let waits = new.deliver == Deliver::WhenOnline && device.status != DeviceStatus::Online;
    let expires = match new.deliver {
        Deliver::Now => new.first_timeout_s,
        Deliver::WhenOnline => new.expires_s,
    };
    let expires_at = by.at + TimeDelta::seconds(expires);
    tx.execute(
        "INSERT INTO commands (request_id, device_id, command, params, secret_params, status,
             deliver, waiting, attempt, first_timeout_s, ack_timeout_s, created_by, created_at, expires_at,
             deadline, group_command, idempotency_key, config_section)
         VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, 0, $8, $9, $10, $11, $12, $12, $13, $14, $15)",
        vec![
            request_id.into(),
            new.device_id.as_str().into(),
            new.command.as_str().into(),
            masked(Json::Object(new.params.clone())).into(),
            Json::Object(new.params.clone()).to_string().into(),
            new.deliver.as_str().into(),
            waits.into(),
            new.first_timeout_s.into(),
            new.ack_timeout_s.into(),
            by.name.as_str().into(),
            by.at.into(),
            expires_at.into(),
            new.group_command.into(),
            key.into(),
            new.section.map(Section::as_str).into(),
        ],
    )
    .await?;
    if let Some(section) = new.section.filter(|_| new.desired) {
        tx.note_desired(&new.device_id, section, &new.params, request_id, by).await?;
    }
    if !waits {
        release(tx, request_id, by.at).await?;
    }
    Ok(Given::Stored(CommandAccepted { request_id, status: CommandStatus::Pending }))
}

fn keyed(key: &str, by: &By) -> String {
    format!("{}:{key}", by.id.unwrap_or_default())
}

async fn given_before(
    tx: &mut Tx,
    device_id: &str,
    key: &str,
    at: DateTime<Utc>,
) -> Result<Option<Given>, Error> {
    let found: Option<(Uuid, String, DateTime<Utc>, Option<Uuid>)> = tx
        .fetch_optional(
            "SELECT request_id, status, created_at, group_command FROM commands
             WHERE device_id = $1 AND idempotency_key = $2",
            vec![device_id.into(), key.into()],
        )
        .await?;
    let Some((request_id, status, created_at, group)) = found else { return Ok(None) };
    if at - created_at < KEY_HOLDS {
        let status = CommandStatus::parse(&status).unwrap_or(CommandStatus::Pending);
        return Ok(Some(Given::Again(CommandAccepted { request_id, status }, group)));
    }
    tx.execute(
        "UPDATE commands SET idempotency_key = NULL WHERE request_id = $1",
        vec![request_id.into()],
    )
    .await?;
    Ok(None)
}

#[derive(sqlx::FromRow)]
struct Ready {
    device_id: String,
    command: String,
    secret_params: Option<String>,
    deliver: String,
    attempt: i64,
    first_timeout_s: i64,
    expires_at: DateTime<Utc>,
}

/// Lets a command go: into the outbox, with the time from which the device may not run it.
pub(super) async fn release(tx: &mut Tx, request_id: Uuid, at: DateTime<Utc>) -> Result<(), Error> {
    let ready: Option<Ready> = tx
        .fetch_optional(
            "SELECT device_id, command, secret_params, deliver, attempt, first_timeout_s, expires_at
             FROM commands WHERE request_id = $1 AND status = 'pending'",
            vec![request_id.into()],
        )
        .await?;
    let Some(ready) = ready else { return Ok(()) };
    let answer_by = at + TimeDelta::seconds(ready.first_timeout_s);
    // One that is to be done now keeps the deadline it was given with.
    let deadline = match Deliver::parse(&ready.deliver) {
        Some(Deliver::WhenOnline) => answer_by,
        _ => ready.expires_at,
    };
    let expires = deadline.min(ready.expires_at);
    let params = ready.secret_params.as_deref().unwrap_or("{}");
    let params: Map<String, Json> = serde_json::from_str(params)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("stored parameters: {e}")))?;
    let body = Command::payload(request_id, &ready.command, &params, expires.timestamp_micros());
    let attempt = ready.attempt + 1;
    let let_go = tx
        .execute(
            "UPDATE commands SET waiting = $1, deadline = $2, attempt = $3
             WHERE request_id = $4 AND status = 'pending'",
            vec![false.into(), deadline.into(), attempt.into(), request_id.into()],
        )
        .await?;
    if let_go == 0 {
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
