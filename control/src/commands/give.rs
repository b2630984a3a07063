//! Giving a command: its row and, if it can be sent now, its row in the outbox, in one transaction.

use acuvim_model::{CommandAccepted, CommandStatus, Deliver, DeviceStatus, Scope};
use acuvim_wire::{
    command::{Command, packet_bytes},
    config::{Section, masked},
    topic,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::release::release;
use crate::{
    audit::By,
    configs::Desired,
    db::{Control, Tx},
    error::{Error, ErrorKind},
};

/// The largest MQTT packet for devices that did not report a limit, in bytes.
const DEFAULT_PACKET: i64 = 1024;

/// How long an idempotency key is remembered.
const KEY_LIFETIME: TimeDelta = TimeDelta::days(1);

/// A command to be given. Its parameters have been validated.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// The id of the device.
    pub device_id: String,
    /// The name of the command.
    pub command: String,
    /// The parameters of the command.
    pub params: Map<String, Json>,
    /// Whether it is sent now or once the device is online.
    pub deliver: Deliver,
    /// Seconds until the first answer.
    pub first_timeout_s: i64,
    /// Seconds from an `ack` to the last answer.
    pub ack_timeout_s: i64,
    /// Seconds that it may wait for the device.
    pub expires_s: i64,
    /// A second command to the device with the same key is not stored.
    pub idempotency_key: Option<String>,
    /// The first level of all topics, which counts for the size of the packet.
    pub topic_prefix: String,
    /// The section of the configuration that it sets, if any.
    pub section: Option<Section>,
    /// Whether its values become the desired configuration. False if they are already, and only sent again.
    pub desired: bool,
    /// The group command that it is part of.
    pub group_command: Option<Uuid>,
}

/// The outcome of giving a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// The command is stored.
    Stored(CommandAccepted),
    /// It was given before under the same key; with the group command that it was part of then.
    Again(CommandAccepted, Option<Uuid>),
    /// There is no such device in the scope.
    NotFound,
    /// The device is disabled.
    Disabled,
    /// The packet is too large for the device.
    TooLarge {
        /// The size of the packet, in bytes.
        bytes: i64,
        /// The limit of the device.
        max: i64,
    },
}

impl Control {
    /// Gives a command.
    pub async fn give_command(
        &self,
        new: &NewCommand,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<Given, Error> {
        match self.try_give(new, scope, by).await {
            // A concurrent call with the same key was first, and is found by the second attempt.
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
        // Every other outcome has written nothing, except that an expired key was freed; that is done
        // again by the next command with the key.
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
    // Measured with an `expires_at` of ten digits, as all have until the year 2286, because the one
    // of a waiting command is not known yet.
    let payload =
        Command::payload(request_id, &new.command, &new.params, i64::from(u32::MAX) << 20);
    let bytes = i64::try_from(packet_bytes(&topic, &payload)).unwrap_or(i64::MAX);
    let max = device.max_packet_bytes.unwrap_or(DEFAULT_PACKET);
    if bytes > max {
        return Ok(Given::TooLarge { bytes, max });
    }
    let waits = new.deliver == Deliver::WhenOnline && device.status != DeviceStatus::Online;
    insert(tx, request_id, new, Insert { key, waits }, by).await?;
    if let Some(section) = new.section.filter(|_| new.desired) {
        let desired = Desired { section, params: &new.params, request_id };
        tx.set_desired(&new.device_id, &desired, by).await?;
    }
    if !waits {
        release(tx, request_id, by.at).await?;
    }
    Ok(Given::Stored(CommandAccepted { request_id, status: CommandStatus::Pending }))
}

/// The columns of a new command that don't come from the command itself.
struct Insert {
    key: Option<String>,
    waits: bool,
}

async fn insert(
    tx: &mut Tx,
    request_id: Uuid,
    new: &NewCommand,
    insert: Insert,
    by: &By,
) -> Result<(), Error> {
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
            insert.waits.into(),
            new.first_timeout_s.into(),
            new.ack_timeout_s.into(),
            by.name.as_str().into(),
            by.at.into(),
            expires_at.into(),
            new.group_command.into(),
            insert.key.into(),
            new.section.map(Section::as_str).into(),
        ],
    )
    .await
    .map(|_| ())
}

/// The key as it is stored: two callers with the same key don't collide.
fn keyed(key: &str, by: &By) -> String {
    format!("{}:{key}", by.id.unwrap_or_default())
}

#[derive(sqlx::FromRow)]
struct EarlierCommand {
    request_id: Uuid,
    status: String,
    created_at: DateTime<Utc>,
    group_command: Option<Uuid>,
}

/// The command that was given to a device under a key. A key that has expired is freed instead.
async fn given_before(
    tx: &mut Tx,
    device_id: &str,
    key: &str,
    at: DateTime<Utc>,
) -> Result<Option<Given>, Error> {
    let found: Option<EarlierCommand> = tx
        .fetch_optional(
            "SELECT request_id, status, created_at, group_command FROM commands
             WHERE device_id = $1 AND idempotency_key = $2",
            vec![device_id.into(), key.into()],
        )
        .await?;
    let Some(earlier) = found else { return Ok(None) };
    let request_id = earlier.request_id;
    if at - earlier.created_at < KEY_LIFETIME {
        let status = CommandStatus::parse(&earlier.status).unwrap_or(CommandStatus::Pending);
        let accepted = CommandAccepted { request_id, status };
        return Ok(Some(Given::Again(accepted, earlier.group_command)));
    }
    tx.execute(
        "UPDATE commands SET idempotency_key = NULL WHERE request_id = $1",
        vec![request_id.into()],
    )
    .await?;
    Ok(None)
}
