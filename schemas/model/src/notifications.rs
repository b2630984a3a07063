//! Notifications: who is told what, how, and what became of it.

use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::rules::DeviceScope;

/// How a notification is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum NotificationKind {
    /// As an HTTP POST to a URL, signed.
    Webhook,
    /// As a mail to one or more addresses.
    Email,
}

/// What a notification is about.
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
    /// The name, 1 to 100 characters, which no other notification has.
    #[cfg_attr(feature = "openapi", schema(example = "Night shift"))]
    pub name: String,
    /// How it is delivered.
    pub kind: NotificationKind,
    /// The URL of a webhook, https:// or http://; only with `webhook`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(example = "https://hooks.example/acuvim"))]
    pub url: Option<String>,
    /// The key that messages to a webhook are signed with: `whsec_` and 24 to 64 bytes in base64; random
    /// unless given.
    #[serde(default, skip_serializing_if = "is_never_shown")]
    #[cfg_attr(feature = "openapi", schema(write_only))]
    pub secret: Option<String>,
    /// Up to 20 mail addresses; only with `email`.
    #[serde(default)]
    pub to: Vec<String>,
    /// What it is about; everything unless given.
    #[serde(default)]
    pub topics: Vec<NotificationTopic>,
    /// The least severity of alerts that are sent; `warning` unless given.
    #[serde(default)]
    pub min_severity: Severity,
    /// The kinds of alert that are sent; all unless given.
    #[serde(default)]
    pub alert_types: Vec<String>,
    /// The devices whose alerts are sent; all unless given. Messages about the system and rollouts go
    /// only to notifications for all devices.
    #[serde(default)]
    pub scope: DeviceScope,
    /// Whether a message is sent when alerts end; true unless given.
    #[serde(default = "yes")]
    pub recoveries: bool,
    /// Whether reminders of unacknowledged alerts are sent; true unless given.
    #[serde(default = "yes")]
    pub reminders: bool,
    /// A link that is added to each message, in which `{alert_type}` is replaced by the kind of alert.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(example = "https://wiki.example/runbooks/{alert_type}")
    )]
    pub runbook_url: Option<String>,
    /// Alerts of one kind that begin within this many seconds are sent as one message: 0 to 3600; 10
    /// unless given.
    #[serde(default = "ten")]
    pub group_seconds: u32,
    /// Whether anything is sent; true unless given.
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
    /// The id of the notification.
    pub id: Uuid,
    /// The settings of the notification.
    #[serde(flatten)]
    pub body: NotificationBody,
    /// The name of the user who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A new notification: the only time its secret is shown.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedNotification {
    /// The notification as it was stored.
    #[serde(flatten)]
    pub notification: Notification,
    /// The key that messages to a webhook are signed with; null for a mail.
    pub secret: Option<String>,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryKind {
    /// Alerts have begun.
    Raised,
    /// Alerts have ended.
    Recovered,
    /// Alerts have not been acknowledged for a long time.
    Reminder,
    /// A rollout has begun, stopped, gone on or ended.
    Rollout,
    /// A person asked for a test.
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

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It waits for its time, or for the next attempt.
    Waiting,
    /// The receiver has taken it.
    Delivered,
    /// It was given up after its last attempt.
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

/// One message and its state.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// The id of the message: the same at every attempt, so that a receiver can recognise a repetition.
    pub id: Uuid,
    /// The id of the notification that it belongs to.
    pub notification_id: Uuid,
    /// What the message is about.
    pub kind: DeliveryKind,
    /// The first line of the message.
    pub title: String,
    /// The number of alerts that it is about.
    pub count: i64,
    /// Whether it waits, was delivered, or was given up.
    pub state: DeliveryState,
    /// The number of attempts so far.
    pub attempts: i64,
    /// When the next attempt is made, or the last one was.
    pub due_at: DateTime<Utc>,
    /// When the message was stored.
    pub created_at: DateTime<Utc>,
    /// When it was delivered or given up; null before.
    pub finished_at: Option<DateTime<Utc>>,
    /// The result of the last attempt in words, such as an HTTP status.
    pub answer: Option<String>,
}

#[cfg(test)]
mod tests;
