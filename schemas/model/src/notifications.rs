//! Notifications: who is told what, how, and what became of it.

use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::rules::DeviceScope;

/// How somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum NotificationKind {
    /// A POST to a URL.
    Webhook,
    /// A mail.
    Email,
}

/// What somebody is told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum NotificationTopic {
    /// Alerts of devices, but for those that are offline.
    Alerts,
    /// Devices that are offline.
    Offline,
    /// The system itself: a ledger that does not balance, a component that is away, a full disk.
    System,
    /// Rollouts that begin, stop, go on or end.
    Rollouts,
}

const fn yes() -> bool {
    true
}

const fn ten() -> u32 {
    10
}

/// Of what comes in and never leaves. `skip_serializing` says the same, and takes the field out of the
/// document of what may come in as well.
const fn is_never_shown(_: &Option<String>) -> bool {
    true
}

/// `POST /api/notifications`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NotificationBody {
    /// 1 to 100 characters, which no other notification has.
    #[cfg_attr(feature = "openapi", schema(example = "Night shift"))]
    pub name: String,
    /// How.
    pub kind: NotificationKind,
    /// Of a webhook: where to, https:// or http://.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(example = "https://hooks.example/acuvim"))]
    pub url: Option<String>,
    /// Of a webhook: what its messages are signed with, `whsec_` and 24 to 64 bytes in base64; made at
    /// random unless given.
    #[serde(default, skip_serializing_if = "is_never_shown")]
    #[cfg_attr(feature = "openapi", schema(write_only))]
    pub secret: Option<String>,
    /// Of a mail: up to 20 addresses.
    #[serde(default)]
    pub to: Vec<String>,
    /// What about; everything unless given.
    #[serde(default)]
    pub topics: Vec<NotificationTopic>,
    /// Only alerts that are at least so bad.
    #[serde(default)]
    pub min_severity: Severity,
    /// Only alerts of these kinds.
    #[serde(default)]
    pub alert_types: Vec<String>,
    /// Only of these devices. The system and rollouts are told to those alone that name none.
    #[serde(default)]
    pub scope: DeviceScope,
    /// Whether it is told that an alert is over.
    #[serde(default = "yes")]
    pub recoveries: bool,
    /// Whether it is reminded of alerts that nobody acknowledges.
    #[serde(default = "yes")]
    pub reminders: bool,
    /// A link that goes along; `{alert_type}` in it is the alert's kind.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(example = "https://wiki.example/runbooks/{alert_type}")
    )]
    pub runbook_url: Option<String>,
    /// Alerts of one kind that come within so many seconds are one message.
    #[serde(default = "ten")]
    pub group_seconds: u32,
    /// Whether it is told anything.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl NotificationBody {
    /// Whether it is told about something.
    #[must_use]
    pub fn is_about(&self, topic: NotificationTopic) -> bool {
        self.topics.is_empty() || self.topics.contains(&topic)
    }
}

/// A notification, without its secret.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Notification {
    /// Its id.
    pub id: Uuid,
    /// What was asked for.
    #[serde(flatten)]
    pub body: NotificationBody,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// A new notification: the only time its secret is shown.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedNotification {
    /// The notification.
    #[serde(flatten)]
    pub notification: Notification,
    /// What a webhook's messages are signed with.
    pub secret: Option<String>,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryKind {
    /// Alerts began.
    Raised,
    /// Alerts are over.
    Recovered,
    /// Nobody has acknowledged alerts for long.
    Reminder,
    /// A rollout went on.
    Rollout,
    /// It works.
    Test,
}

impl DeliveryKind {
    /// The name in tables and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Recovered => "recovered",
            Self::Reminder => "reminder",
            Self::Rollout => "rollout",
            Self::Test => "test",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Raised, Self::Recovered, Self::Reminder, Self::Rollout, Self::Test];
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It waits for its time, or for the next attempt.
    Waiting,
    /// The receiver has taken it.
    Delivered,
    /// It was given up.
    Dead,
}

impl DeliveryState {
    /// The name in tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Delivered, Self::Dead].into_iter().find(|s| s.as_str() == name)
    }
}

/// One message, and what became of it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// Its id: the same at every attempt.
    pub id: Uuid,
    /// Of which notification.
    pub notification_id: Uuid,
    /// What it says.
    pub kind: DeliveryKind,
    /// Its first line.
    pub title: String,
    /// How many alerts it is about.
    pub count: i64,
    /// How far it has come.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next, or was last.
    pub due_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was taken, or given up.
    pub finished_at: Option<DateTime<Utc>>,
    /// What the last attempt came to.
    pub answer: Option<String>,
}
