//! Commands: what is asked for, and what became of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// When a command may reach the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Deliver {
    /// At once: the command fails if the device does not take it in time.
    #[default]
    Now,
    /// As soon as the device is heard, within `expires_seconds`.
    WhenOnline,
}

impl Deliver {
    /// The name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::WhenOnline => "when_online",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Now, Self::WhenOnline].into_iter().find(|d| d.as_str() == name)
    }
}

/// `POST /api/devices/{device_id}/command` and `POST /api/groups/{id}/command`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// The name of one of the 20 commands of the protocol; any other with `raw`.
    #[cfg_attr(feature = "openapi", schema(example = "wifi_scan"))]
    pub command: String,
    /// The parameters of the command; none unless given.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// How long to wait for the first answer, and from an `ack` on for the last: 1 to 86400. Unless
    /// given, 60 and what the command usually takes.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
    /// When the command may reach the device; `now` unless given.
    #[serde(default)]
    pub deliver: Deliver,
    /// How long a `when_online` command waits for the device: at most 30 days, which is also what
    /// it waits unless given.
    #[serde(default)]
    pub expires_seconds: Option<u32>,
    /// The same key again within a day answers the first command again. Up to 100 characters.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// Whether a command may be sent that is none of the 20. Admins only.
    #[serde(default)]
    pub raw: bool,
}

/// A command that was stored: what becomes of it is at `/api/commands/{request_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandAccepted {
    /// The id of the command.
    pub request_id: Uuid,
    /// The status so far, usually `pending`.
    pub status: CommandStatus,
}

/// A command and what became of it. Secrets in it are masked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandInfo {
    /// The id of the command, which the device repeats in its answers.
    pub request_id: Uuid,
    /// The device that it is for.
    #[cfg_attr(feature = "openapi", schema(example = "ACV-AABBCCDDEEFF"))]
    pub device_id: String,
    /// The name of the command.
    #[cfg_attr(feature = "openapi", schema(example = "wifi_scan"))]
    pub command: String,
    /// The parameters, with secrets masked.
    pub params: Value,
    /// The status: `success`, `error` and `timeout` are final.
    pub status: CommandStatus,
    /// When it may reach the device.
    pub deliver: Deliver,
    /// The name of the user or key that gave it.
    pub created_by: String,
    /// When it was given.
    pub created_at: DateTime<Utc>,
    /// The command is not sent after this time.
    pub expires_at: DateTime<Utc>,
    /// When the device, or an external broker, acknowledged its packet; null until then.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the device answered `ack`; null if it did not.
    pub ack_at: Option<DateTime<Utc>>,
    /// When it got its final status; null before.
    pub finished_at: Option<DateTime<Utc>>,
    /// When its status becomes `timeout` unless the device answers before.
    pub deadline: Option<DateTime<Utc>>,
    /// The last answer of the device, with secrets masked; null if there is none.
    pub response: Option<Value>,
    /// Why it failed, in words; null unless it did.
    pub error: Option<String>,
    /// The command to a group that it is part of; null if it was given to this device alone.
    pub group_command: Option<Uuid>,
    /// Answers that changed nothing: late, repeated, or from another device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_answers: Vec<OtherAnswer>,
}

/// An answer that did not change the status of the command, with the reason.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OtherAnswer {
    /// The device that sent the answer.
    pub device_id: String,
    /// When the answer arrived.
    pub at: DateTime<Utc>,
    /// Why it changed nothing: `late`, `repeated`, `unknown` or `wrong_device`.
    #[cfg_attr(feature = "openapi", schema(example = "late"))]
    pub verdict: String,
    /// The answer as the device sent it, with secrets masked.
    pub answer: Value,
}

/// A command to a group: one for each device.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupCommand {
    /// Its id: follow it at `/api/groups/{id}/commands/{group_command}`.
    pub group_command: Uuid,
    /// The number of commands that were stored, one for each device.
    pub total: i64,
    /// The devices that got no command, with the reasons.
    pub skipped: Vec<Skipped>,
}

/// A device that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Skipped {
    /// The device that was left out.
    pub device_id: String,
    /// Why it was left out, in words.
    pub reason: String,
}

/// How far the commands of a group command have come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupCommandSummary {
    /// The id of the command to the group.
    pub group_command: Uuid,
    /// The name of the command.
    pub command: String,
    /// The number of its commands, one for each device.
    pub total: i64,
    /// Commands that are stored and not yet with their device.
    pub pending: i64,
    /// Commands whose packet was acknowledged, without an answer so far.
    pub sent: i64,
    /// Commands that their device is working on.
    pub ack: i64,
    /// Commands that their device has carried out.
    pub success: i64,
    /// Commands that failed.
    pub error: i64,
    /// Commands whose device did not answer in time.
    pub timeout: i64,
    /// Whether every command has a final status.
    pub done: bool,
}

/// How far a command has come. Each has one terminal state, and keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CommandStatus {
    /// Stored, and not yet with the device.
    Pending,
    /// The broker or the device has acknowledged its packet.
    Sent,
    /// The device has taken it and is at work.
    Ack,
    /// The device has carried it out.
    Success,
    /// The device could not do it, or it could not be given to the device.
    Error,
    /// No answer came in time. One that comes later is kept beside it.
    Timeout,
}

impl CommandStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Sent, Self::Ack, Self::Success, Self::Error, Self::Timeout];

    /// The name in tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Ack => "ack",
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Whether nothing changes it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Error | Self::Timeout)
    }
}

#[cfg(test)]
mod tests;
