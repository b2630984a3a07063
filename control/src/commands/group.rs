//! Commands to a group: one for each of its devices, and a summary of their progress.

use acuvim_model::{CommandStatus, GroupCommand, GroupCommandSummary, Scope, Skipped};
use serde_json::json;
use uuid::Uuid;

use super::give::{Given, NewCommand, give};
use crate::{audit::By, db::Control, error::Error, scope::within, statement::Statement};

/// Commands in one transaction. On SQLite all other writers wait for it.
const CHUNK: usize = 200;

/// The outcome for some devices of a group.
#[derive(Default)]
struct Chunk {
    total: i64,
    skipped: Vec<Skipped>,
    /// The group command that they got before under the same key.
    earlier: Option<Uuid>,
}

/// A command to a group.
struct GroupRequest<'a> {
    group_id: Uuid,
    group_command: Uuid,
    new: &'a NewCommand,
    scope: Option<&'a Scope>,
    by: &'a By,
}

/// The outcome of giving a command to a group.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupGiven {
    /// Stored for each device, apart from those that are named.
    Stored(GroupCommand),
    /// There is no such group in the scope.
    NotFound,
    /// The group has no devices.
    Empty,
}

impl Control {
    /// Gives each device of a group the same command. If the database fails in between, the result names
    /// the devices without one.
    pub async fn give_group_command(
        &self,
        group_id: Uuid,
        new: &NewCommand,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<GroupGiven, Error> {
        if self.group(group_id, scope).await?.is_none() {
            return Ok(GroupGiven::NotFound);
        }
        let devices = self.group_members(group_id, scope).await?;
        if devices.is_empty() {
            return Ok(GroupGiven::Empty);
        }
        let group_command = Uuid::now_v7();
        let mut given = GroupCommand { group_command, total: 0, skipped: Vec::new() };
        let command = GroupRequest { group_id, group_command, new, scope, by };
        let mut earlier = None;
        for (n, chunk) in devices.chunks(CHUNK).enumerate() {
            match self.give_chunk(&command, chunk, n == 0).await {
                Ok(stored) => {
                    given.total += stored.total;
                    given.skipped.extend(stored.skipped);
                    earlier = earlier.or(stored.earlier);
                }
                // Earlier chunks are stored and will be sent, so the caller must get the id of the group
                // command rather than an error.
                Err(error) if n > 0 => {
                    tracing::info!(%error, "a group command was not stored for all");
                    let not_stored = |device_id: &String| Skipped {
                        device_id: device_id.clone(),
                        reason: "it was not stored: the database is away".to_owned(),
                    };
                    given.skipped.extend(devices.iter().skip(n * CHUNK).map(not_stored));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        match earlier.filter(|_| given.total == 0) {
            None => Ok(GroupGiven::Stored(given)),
            Some(group_command) => {
                let before = self.group_command(group_command, None).await?;
                let total = before.map_or(0, |summary| summary.total);
                let skipped = Vec::new();
                Ok(GroupGiven::Stored(GroupCommand { group_command, total, skipped }))
            }
        }
    }

    /// Gives some devices of a group the command, in one transaction.
    async fn give_chunk(
        &self,
        request: &GroupRequest<'_>,
        devices: &[String],
        first: bool,
    ) -> Result<Chunk, Error> {
        let GroupRequest { group_id, group_command, new, scope, by } = *request;
        let (mut given, mut tx) = (Chunk::default(), self.begin().await?);
        for device_id in devices {
            let one = NewCommand {
                device_id: device_id.clone(),
                group_command: Some(group_command),
                ..new.clone()
            };
            match give(&mut tx, &one, scope, by).await? {
                Given::Stored(_) => given.total += 1,
                other => {
                    if let Given::Again(_, earlier) = &other {
                        given.earlier = *earlier;
                    }
                    given.skipped.push(skipped(device_id, &other));
                }
            }
        }
        if first {
            let detail = json!({
                "command": new.command, "params": new.params, "group_command": group_command,
            });
            tx.audit(by, "group.command", &group_id.to_string(), detail).await?;
        }
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(given)
    }

    /// The ids of the devices of a group.
    async fn group_members(
        &self,
        group_id: Uuid,
        scope: Option<&Scope>,
    ) -> Result<Vec<String>, Error> {
        let mut members = Statement::new("SELECT d.device_id FROM devices d");
        members.push("WHERE d.group_id = ?", [group_id.into()]);
        within(&mut members, scope);
        members.push("ORDER BY d.device_id", []);
        let rows: Vec<(String,)> = self.select(members).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// The progress of a group command. `None` if none of its devices are in the scope.
    pub async fn group_command(
        &self,
        group_command: Uuid,
        scope: Option<&Scope>,
    ) -> Result<Option<GroupCommandSummary>, Error> {
        let mut count = Statement::new("SELECT c.command, c.status, COUNT(*) FROM commands c");
        count.push("WHERE c.group_command = ?", [group_command.into()]);
        if scope.is_some() {
            count.push("AND c.device_id IN (SELECT d.device_id FROM devices d WHERE 1 = 1", []);
            within(&mut count, scope);
            count.push(")", []);
        }
        count.push("GROUP BY c.command, c.status", []);
        let rows: Vec<(String, String, i64)> = self.select(count).await?;
        Ok(summary(group_command, rows))
    }
}

fn summary(group_command: Uuid, rows: Vec<(String, String, i64)>) -> Option<GroupCommandSummary> {
    let command = rows.first()?.0.clone();
    let mut summary = GroupCommandSummary {
        group_command,
        command,
        done: true,
        ..GroupCommandSummary::default()
    };
    for (_, status, n) in rows {
        let Some(status) = CommandStatus::parse(&status) else { continue };
        summary.total += n;
        summary.done &= status.is_final();
        let field = match status {
            CommandStatus::Pending => &mut summary.pending,
            CommandStatus::Sent => &mut summary.sent,
            CommandStatus::Ack => &mut summary.ack,
            CommandStatus::Success => &mut summary.success,
            CommandStatus::Error => &mut summary.error,
            CommandStatus::Timeout => &mut summary.timeout,
        };
        *field += n;
    }
    Some(summary)
}

fn skipped(device_id: &str, given: &Given) -> Skipped {
    let reason = match given {
        Given::Disabled => "it is disabled".to_owned(),
        Given::TooLarge { bytes, max } => {
            format!("the packet has {bytes} bytes, it takes {max}")
        }
        Given::Again(..) => "it was given before, under the same idempotency_key".to_owned(),
        Given::NotFound | Given::Stored(_) => "it is gone".to_owned(),
    };
    Skipped { device_id: device_id.to_owned(), reason }
}
