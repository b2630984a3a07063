//! Alerts, what people do about them, and the readings behind them.

use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::rules::DeviceScope;

/// What raised an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AlertOrigin {
    /// The device reported it on its `alerts` topic.
    Device,
    /// A rule found it in the readings.
    Rule,
    /// Health monitoring found it in heartbeats, or in their absence.
    Health,
    /// This system reports it about itself, such as a full disk.
    System,
}

impl AlertOrigin {
    /// The name in tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Rule => "rule",
            Self::Health => "health",
            Self::System => "system",
        }
    }

    /// The origin of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Device, Self::Rule, Self::Health, Self::System];
        all.into_iter().find(|o| o.as_str() == name)
    }
}

/// An alert: an episode with a beginning and an end.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Alert {
    /// The id of the alert. The same readings give the same id when they are processed again.
    pub id: Uuid,
    /// The device; null for alerts of the system about itself.
    pub device_id: Option<String>,
    /// The kind of alert: overvoltage, offline, ...
    pub alert_type: String,
    /// How urgent it is.
    pub severity: Severity,
    /// A sentence for people.
    pub message: String,
    /// The value that broke the limit, in the unit of the reading; null if the alert is not about a
    /// number.
    pub value: Option<f64>,
    /// The limit that was broken, in the unit of `value`; null if there is none.
    pub threshold: Option<f64>,
    /// Further details, whose fields depend on the origin; null if there are none.
    pub metadata: Option<Value>,
    /// What raised the alert.
    pub origin: AlertOrigin,
    /// The rule that raised it; null for other origins.
    pub rule_id: Option<Uuid>,
    /// The version of the rule when it raised the alert.
    pub rule_version: Option<i64>,
    /// Whether it comes from a rule in mode `shadow`: it is recorded, and nobody is notified.
    pub shadow: bool,
    /// Whether it became known long after it happened, for example from an SD card: nobody is notified.
    pub backfilled: bool,
    /// Whether a silence was in force when it was raised: nobody was notified.
    pub silenced: bool,
    /// Whether late readings have shown that its condition never held.
    pub withdrawn: bool,
    /// Whether a person has acknowledged it.
    pub acknowledged: bool,
    /// The name of the user who acknowledged it.
    pub acknowledged_by: Option<String>,
    /// When it was acknowledged.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// What the user wrote when acknowledging it, up to 1000 characters.
    pub acknowledge_note: Option<String>,
    /// When its condition began, in event time.
    pub created_at: DateTime<Utc>,
    /// When it had held for long enough, in event time.
    pub raised_at: DateTime<Utc>,
    /// When it ended, in event time; null while it is open.
    pub resolved_at: Option<DateTime<Utc>>,
    /// The name of the user who resolved it; null if it ended by itself.
    pub resolved_by: Option<String>,
    /// How it ended: `cleared`, `resolved` by a person, `rule_deleted`, `rule_off`.
    pub resolution: Option<String>,
    /// The incident: alerts of one kind that begin in one group at about the same time share it.
    pub incident_id: Option<Uuid>,
    /// When somebody was last reminded of it.
    pub reminded_at: Option<DateTime<Utc>>,
    /// When it was escalated.
    pub escalated_at: Option<DateTime<Utc>>,
}

/// `PUT /api/alerts/{id}/acknowledge`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AcknowledgeBody {
    /// A note of up to 1000 characters.
    pub note: Option<String>,
}

/// `POST /api/alerts/acknowledge`: either ids or a filter.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AcknowledgeMany {
    /// The ids of up to 1000 alerts.
    pub ids: Vec<Uuid>,
    /// In place of ids: every open alert that matches.
    pub filter: Option<AcknowledgeFilter>,
    /// A note of up to 1000 characters for each of the alerts.
    pub note: Option<String>,
}

/// Which open alerts are acknowledged at once. An absent condition matches every alert.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AcknowledgeFilter {
    /// Only alerts of this device.
    pub device_id: Option<String>,
    /// Only alerts of devices in this group.
    pub group_id: Option<Uuid>,
    /// Only alerts of this kind, such as `overvoltage`.
    pub alert_type: Option<String>,
    /// Only alerts of exactly this severity.
    pub severity: Option<Severity>,
    /// Only alerts of this incident.
    pub incident_id: Option<Uuid>,
}

/// How many were acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Acknowledged {
    /// Alerts that were not acknowledged before.
    pub acknowledged: i64,
}

/// `POST /api/silences`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SilenceBody {
    /// The devices whose alerts are silenced; all unless given.
    #[serde(default)]
    pub scope: DeviceScope,
    /// The kinds of alert that are silenced; all unless given.
    #[serde(default)]
    pub alert_types: Vec<String>,
    /// When the silence ends, at most a year from now.
    pub until: DateTime<Utc>,
    /// Why it is made, 1 to 1000 characters.
    pub reason: String,
}

/// A silence: alerts are raised and recorded, but nobody is notified or reminded.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Silence {
    /// The id of the silence.
    pub id: Uuid,
    /// The devices whose alerts are silenced.
    pub scope: DeviceScope,
    /// The kinds of alert that are silenced; empty for all.
    pub alert_types: Vec<String>,
    /// When the silence ends.
    pub until: DateTime<Utc>,
    /// Why it was made.
    pub reason: String,
    /// The name of the user who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// `GET /api/alerts/{id}/evidence`: the readings behind an alert.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Evidence {
    /// The id of the alert.
    pub alert_id: Uuid,
    /// The device that the readings are of.
    pub device_id: String,
    /// The time of the first of these readings, RFC 3339.
    pub from: String,
    /// The time of the last of these readings, RFC 3339.
    pub to: String,
    /// The version of the rule that evaluated them; null if no rule did.
    pub rule_version: Option<i64>,
    /// The Delta version of `telemetry` that holds them.
    pub lake_version: i64,
    /// The next offset of the log in each partition when the readings were read.
    pub watermark: Vec<i64>,
    /// The readings in order of time, each with its `identity`.
    pub readings: Vec<Map<String, Value>>,
    /// Whether some of the readings were left out because there are too many.
    pub truncated: bool,
}

#[cfg(test)]
mod tests;
