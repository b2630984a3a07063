//! The row of an alert.

use acuvim_model::{Alert, AlertOrigin, event::Marks};
use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

/// The columns of [`AlertRow`], of the table alias `a`.
pub(super) const COLUMNS: &str = "a.id, a.device_id, a.alert_type, a.severity, a.message, a.value,
    a.threshold, a.metadata, a.origin, a.rule_id, a.rule_version, a.marks, a.shadow, a.backfilled,
    a.silenced, a.withdrawn, a.acknowledged, a.acknowledged_by, a.acknowledged_at,
    a.acknowledge_note, a.created_at, a.raised_at, a.resolved_at, a.resolved_by, a.resolution,
    a.incident_id, a.reminded_at, a.escalated_at";

#[derive(sqlx::FromRow)]
pub(super) struct AlertRow {
    pub id: Uuid,
    pub device_id: Option<String>,
    pub alert_type: String,
    pub severity: String,
    pub message: String,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub metadata: Option<Json>,
    pub origin: String,
    pub rule_id: Option<Uuid>,
    pub rule_version: Option<i64>,
    pub marks: Option<String>,
    pub shadow: bool,
    pub backfilled: bool,
    pub silenced: bool,
    pub withdrawn: bool,
    pub acknowledged: bool,
    pub acknowledged_by: Option<String>,
    pub acknowledged_at: Option<DateTime<Utc>>,
    pub acknowledge_note: Option<String>,
    pub created_at: DateTime<Utc>,
    pub raised_at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
    pub resolved_by: Option<String>,
    pub resolution: Option<String>,
    pub incident_id: Option<Uuid>,
    pub reminded_at: Option<DateTime<Utc>>,
    pub escalated_at: Option<DateTime<Utc>>,
}

impl AlertRow {
    pub fn marks(&self) -> Option<Marks> {
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
