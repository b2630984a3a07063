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
    /// At once: it fails if the device stays away.
    #[default]
    Now,
    /// As soon as the device is there, within `expires_seconds`.
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
    /// One of the 20 commands.
    #[cfg_attr(feature = "openapi", schema(example = "wifi_scan"))]
    pub command: String,
    /// What it takes.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// How long to wait for the first answer, and from an `ack` on for the last: 1 to 86400. Unless
    /// given, 60 and what the command usually takes.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
    /// When it may reach the device.
    #[serde(default)]
    pub deliver: Deliver,
    /// How long a `when_online` command waits for the device: at most 30 days, which is also what
    /// it waits unless given.
    #[serde(default)]
    pub expires_seconds: Option<u32>,
    /// The same key again within a day answers the first command again. Up to 100 characters.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// Send a command that is none of the 20. Admins only.
    #[serde(default)]
    pub raw: bool,
}

/// A command that was stored: what becomes of it is at `/api/commands/{request_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandAccepted {
    /// Its id.
    pub request_id: Uuid,
    /// How far it has come.
    pub status: CommandStatus,
}

/// A command and what became of it. Secrets in it are masked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandInfo {
    /// Its id.
    pub request_id: Uuid,
    /// For whom.
    #[cfg_attr(feature = "openapi", schema(example = "ACV-AABBCCDDEEFF"))]
    pub device_id: String,
    /// What.
    #[cfg_attr(feature = "openapi", schema(example = "wifi_scan"))]
    pub command: String,
    /// With what.
    pub params: Value,
    /// How far it has come.
    pub status: CommandStatus,
    /// When it may reach the device.
    pub deliver: Deliver,
    /// Who gave it.
    pub created_by: String,
    /// When it was given.
    pub created_at: DateTime<Utc>,
    /// From then on it is not sent any more.
    pub expires_at: DateTime<Utc>,
    /// When the broker or the device had its packet.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the device said that it is at work.
    pub ack_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When it ends as `timeout` unless something comes before.
    pub deadline: Option<DateTime<Utc>>,
    /// What the device answered.
    pub response: Option<Value>,
    /// What went wrong.
    pub error: Option<String>,
    /// The command to a group that it is part of.
    pub group_command: Option<Uuid>,
    /// Answers that changed nothing: late, repeated, or from another device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_answers: Vec<OtherAnswer>,
}

/// An answer that changed nothing, and why.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OtherAnswer {
    /// Who sent it.
    pub device_id: String,
    /// When it came.
    pub at: DateTime<Utc>,
    /// `late`, `repeated`, `unknown` or `wrong_device`.
    #[cfg_attr(feature = "openapi", schema(example = "late"))]
    pub verdict: String,
    /// What it said.
    pub answer: Value,
}

/// A command to a group: one for each device.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupCommand {
    /// Its id: follow it at `/api/groups/{id}/commands/{group_command}`.
    pub group_command: Uuid,
    /// Commands that were made.
    pub total: i64,
    /// Devices that got none, and why.
    pub skipped: Vec<Skipped>,
}

/// A device that got no command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Skipped {
    /// Which.
    pub device_id: String,
    /// Why.
    pub reason: String,
}

/// How far the commands of a group command have come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupCommandSummary {
    /// Its id.
    pub group_command: Uuid,
    /// What.
    pub command: String,
    /// All of them.
    pub total: i64,
    /// By status.
    pub pending: i64,
    /// By status.
    pub sent: i64,
    /// By status.
    pub ack: i64,
    /// By status.
    pub success: i64,
    /// By status.
    pub error: i64,
    /// By status.
    pub timeout: i64,
    /// Whether every one has ended.
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
    /// Done.
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
