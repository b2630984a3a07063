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
    /// The device itself.
    Device,
    /// A rule over its readings.
    Rule,
    /// Its heartbeats, or their absence.
    Health,
    /// This system, about itself.
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
    /// Its id.
    pub id: Uuid,
    /// Whose; null for the system's own.
    pub device_id: Option<String>,
    /// What: overvoltage, offline, ...
    pub alert_type: String,
    /// How bad.
    pub severity: Severity,
    /// In words.
    pub message: String,
    /// The value that broke the limit.
    pub value: Option<f64>,
    /// The limit.
    pub threshold: Option<f64>,
    /// More, as its origin says it.
    pub metadata: Option<Value>,
    /// What raised it.
    pub origin: AlertOrigin,
    /// The rule, where one did.
    pub rule_id: Option<Uuid>,
    /// Its version at that time.
    pub rule_version: Option<i64>,
    /// Whether the rule only records.
    pub shadow: bool,
    /// Whether it became known long after it happened: nobody is paged for it.
    pub backfilled: bool,
    /// Whether a silence held when it was raised.
    pub silenced: bool,
    /// Whether late readings showed that it never was.
    pub withdrawn: bool,
    /// Whether a person has seen it.
    pub acknowledged: bool,
    /// Who.
    pub acknowledged_by: Option<String>,
    /// When.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// What they said.
    pub acknowledge_note: Option<String>,
    /// When its condition began, in event time.
    pub created_at: DateTime<Utc>,
    /// When it had held for long enough, in event time.
    pub raised_at: DateTime<Utc>,
    /// When it ended, in event time; null while it is open.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Who ended it, where a person did.
    pub resolved_by: Option<String>,
    /// How it ended: `cleared`, `resolved` by a person, `rule_deleted`, `rule_off`.
    pub resolution: Option<String>,
    /// Alerts of the same kind in the same group at the same time share it: one story.
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
    /// Up to 1000 characters.
    pub note: Option<String>,
}

/// `POST /api/alerts/acknowledge`: either ids or a filter.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AcknowledgeMany {
    /// Up to 1000 alerts.
    pub ids: Vec<Uuid>,
    /// Or all open ones that match.
    pub filter: Option<AcknowledgeFilter>,
    /// Up to 1000 characters.
    pub note: Option<String>,
}

/// Which alerts are acknowledged at once. What is absent does not matter.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AcknowledgeFilter {
    /// Of this device.
    pub device_id: Option<String>,
    /// Of this group.
    pub group_id: Option<Uuid>,
    /// Of this kind.
    pub alert_type: Option<String>,
    /// Of this severity.
    pub severity: Option<Severity>,
    /// Of this incident.
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
    /// The devices; all unless given.
    #[serde(default)]
    pub scope: DeviceScope,
    /// The kinds of alert; all unless given.
    #[serde(default)]
    pub alert_types: Vec<String>,
    /// Until when, at most a year from now.
    pub until: DateTime<Utc>,
    /// Why: 1 to 1000 characters.
    pub reason: String,
}

/// A silence: alerts are raised and recorded, and nobody is paged or reminded.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Silence {
    /// Its id.
    pub id: Uuid,
    /// The devices.
    pub scope: DeviceScope,
    /// The kinds of alert.
    pub alert_types: Vec<String>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// `GET /api/alerts/{id}/evidence`: the readings behind an alert.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Evidence {
    /// Which alert.
    pub alert_id: Uuid,
    /// Whose readings.
    pub device_id: String,
    /// From the first of them.
    pub from: String,
    /// To the last.
    pub to: String,
    /// The rule's version that judged them.
    pub rule_version: Option<i64>,
    /// The Delta version of `telemetry` that holds them.
    pub lake_version: i64,
    /// The log's offsets that it was read at, per partition.
    pub watermark: Vec<i64>,
    /// The readings, with their identities.
    pub readings: Vec<Map<String, Value>>,
    /// Whether there are more than these.
    pub truncated: bool,
}
