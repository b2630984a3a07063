//! Alerts as episodes: what begins, changes and ends them, and who has seen them.

mod apply;
mod list;
mod pair;
mod people;
mod said;
mod system;

use acuvim_schemas::{
    api::{Alert, AlertOrigin},
    event::Marks,
    payload::Severity,
};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

pub use list::{AlertCounts, AlertFilter, RecordedEpisode};
pub use people::Reminders;
pub use system::SystemCondition;

pub(crate) use apply::Applying;

/// An alert that begins.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAlert {
    /// Its id: the same whenever it is found anew.
    pub id: Uuid,
    /// Whose; none for the system's own.
    pub device_id: Option<String>,
    /// What.
    pub alert_type: String,
    /// How bad.
    pub severity: Severity,
    /// In words.
    pub message: String,
    /// The value that broke the limit.
    pub value: Option<f64>,
    /// The limit.
    pub threshold: Option<f64>,
    /// More.
    pub metadata: Option<Json>,
    /// What raised it.
    pub origin: AlertOrigin,
    /// The rule and its version.
    pub rule: Option<(Uuid, i64)>,
    /// The readings that it rests on.
    pub marks: Option<Marks>,
    /// What tells it apart from others of its kind on the same device.
    pub subject: String,
    /// Whether it is only recorded.
    pub shadow: bool,
    /// Whether it became known long after it happened.
    pub backfilled: bool,
    /// When its condition began.
    pub created_at: DateTime<Utc>,
    /// When it had held for long enough.
    pub raised_at: DateTime<Utc>,
    /// When it ended, if that is known already.
    pub resolved_at: Option<DateTime<Utc>>,
}

impl NewAlert {
    /// One of a device's health, which begins and is known at a moment.
    #[must_use]
    pub fn of_health(id: Uuid, device_id: &str, alert_type: &str, at: DateTime<Utc>) -> Self {
        Self {
            id,
            device_id: Some(device_id.to_owned()),
            alert_type: alert_type.to_owned(),
            severity: Severity::Warning,
            message: String::new(),
            value: None,
            threshold: None,
            metadata: None,
            origin: AlertOrigin::Health,
            rule: None,
            marks: None,
            subject: String::new(),
            shadow: false,
            backfilled: false,
            created_at: at,
            raised_at: at,
            resolved_at: None,
        }
    }
}

/// What changes about alerts.
#[derive(Debug, Clone, PartialEq)]
pub enum AlertChange {
    /// One begins.
    Raise(Box<NewAlert>),
    /// One ends.
    Clear {
        /// Which.
        id: Uuid,
        /// Its true end.
        at: DateTime<Utc>,
        /// The readings that it rests on.
        marks: Option<Marks>,
    },
    /// Late readings changed its times.
    Amend {
        /// Which.
        id: Uuid,
        /// When its condition began.
        created_at: DateTime<Utc>,
        /// When it had held for long enough.
        raised_at: DateTime<Utc>,
        /// When it ended.
        resolved_at: Option<DateTime<Utc>>,
        /// The readings that it rests on.
        marks: Marks,
    },
    /// Late readings showed that it never was.
    Withdraw {
        /// Which.
        id: Uuid,
    },
}

/// The columns of an alert `a`.
pub(crate) const COLUMNS: &str = "a.id, a.device_id, a.alert_type, a.severity, a.message, a.value,
    a.threshold, a.metadata, a.origin, a.rule_id, a.rule_version, a.marks, a.shadow, a.backfilled,
    a.silenced, a.withdrawn, a.acknowledged, a.acknowledged_by, a.acknowledged_at,
    a.acknowledge_note, a.created_at, a.raised_at, a.resolved_at, a.resolved_by, a.resolution,
    a.incident_id, a.reminded_at, a.escalated_at";

#[derive(sqlx::FromRow)]
pub(crate) struct AlertRow {
    id: Uuid,
    device_id: Option<String>,
    alert_type: String,
    severity: String,
    message: String,
    value: Option<f64>,
    threshold: Option<f64>,
    metadata: Option<Json>,
    origin: String,
    rule_id: Option<Uuid>,
    rule_version: Option<i64>,
    marks: Option<String>,
    shadow: bool,
    backfilled: bool,
    silenced: bool,
    withdrawn: bool,
    acknowledged: bool,
    acknowledged_by: Option<String>,
    acknowledged_at: Option<DateTime<Utc>>,
    acknowledge_note: Option<String>,
    created_at: DateTime<Utc>,
    raised_at: DateTime<Utc>,
    resolved_at: Option<DateTime<Utc>>,
    resolved_by: Option<String>,
    resolution: Option<String>,
    incident_id: Option<Uuid>,
    reminded_at: Option<DateTime<Utc>>,
    escalated_at: Option<DateTime<Utc>>,
}

impl AlertRow {
    fn marks(&self) -> Option<Marks> {
        self.marks.as_deref().and_then(|marks| serde_json::from_str(marks).ok())
    }
}

impl From<AlertRow> for Alert {
    fn from(row: AlertRow) -> Self {
        Self {
            id: row.id,
            device_id: row.device_id,
            alert_type: row.alert_type,
            severity: Severity::parse(&row.severity).unwrap_or_default(),
            message: row.message,
            value: row.value,
            threshold: row.threshold,
            metadata: row.metadata,
            origin: AlertOrigin::parse(&row.origin).unwrap_or(AlertOrigin::System),
            rule_id: row.rule_id,
            rule_version: row.rule_version,
            shadow: row.shadow,
            backfilled: row.backfilled,
            silenced: row.silenced,
            withdrawn: row.withdrawn,
            acknowledged: row.acknowledged,
            acknowledged_by: row.acknowledged_by,
            acknowledged_at: row.acknowledged_at,
            acknowledge_note: row.acknowledge_note,
            created_at: row.created_at,
            raised_at: row.raised_at,
            resolved_at: row.resolved_at,
            resolved_by: row.resolved_by,
            resolution: row.resolution,
            incident_id: row.incident_id,
            reminded_at: row.reminded_at,
            escalated_at: row.escalated_at,
        }
    }
}
