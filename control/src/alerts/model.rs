//! New alerts, and changes of alerts.

use acuvim_model::{AlertOrigin, event::Marks};
use acuvim_wire::payload::Severity;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

/// An alert to be raised.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAlert {
    /// The id. It is derived from the episode, so that finding the same episode again gives the same id.
    pub id: Uuid,
    /// The device, or `None` for an alert about the system itself.
    pub device_id: Option<String>,
    /// The type of the alert.
    pub alert_type: String,
    /// How severe the alert is.
    pub severity: Severity,
    /// The message, for people.
    pub message: String,
    /// The value that broke the limit.
    pub value: Option<f64>,
    /// The limit that was exceeded.
    pub threshold: Option<f64>,
    /// Further fields, which depend on the type.
    pub metadata: Option<Json>,
    /// What raised it.
    pub origin: AlertOrigin,
    /// The rule and its version.
    pub rule: Option<(Uuid, i64)>,
    /// The readings that raised it.
    pub marks: Option<Marks>,
    /// Tells alerts of the same type on the same device apart, such as a phase.
    pub subject: String,
    /// Whether it comes from a rule in shadow mode, and is only recorded.
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
    /// An alert about the health of a device, raised at the moment at which its condition began.
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

/// A change of an alert.
#[derive(Debug, Clone, PartialEq)]
pub enum AlertChange {
    /// It is raised.
    Raise(Box<NewAlert>),
    /// Its condition ended.
    Clear {
        /// The id of the alert.
        id: Uuid,
        /// When the condition ended.
        at: DateTime<Utc>,
        /// The readings that show it.
        marks: Option<Marks>,
    },
    /// Late readings changed its times.
    Amend {
        /// The id of the alert.
        id: Uuid,
        /// When its condition began.
        created_at: DateTime<Utc>,
        /// When it had held for long enough.
        raised_at: DateTime<Utc>,
        /// When it ended, if it has.
        resolved_at: Option<DateTime<Utc>>,
        /// The readings that show it.
        marks: Marks,
    },
    /// Late readings showed that its condition never held for long enough.
    Withdraw {
        /// The id of the alert.
        id: Uuid,
    },
}
