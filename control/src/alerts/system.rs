//! Alerts about the system itself: the open alerts are kept equal to what is wrong at present.

use acuvim_model::{AlertOrigin, event::alert_id};
use acuvim_wire::payload::Severity;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{apply::Applying, model::NewAlert};
use crate::{db::Control, error::Error};

/// Something that is wrong with the system.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemCondition {
    /// The type of the alert: `ledger_unbalanced`, `component_away`.
    pub alert_type: &'static str,
    /// Tells conditions of the same type apart.
    pub subject: String,
    /// How severe the alert is.
    pub severity: Severity,
    /// The message, for people, with what to do.
    pub message: String,
    /// Further fields, which depend on the type.
    pub metadata: Json,
}

/// How long a condition whose alert a person resolved is not raised again.
const QUIET_AFTER_RESOLVE: TimeDelta = TimeDelta::hours(1);

#[derive(sqlx::FromRow)]
struct KnownAlert {
    id: Uuid,
    alert_type: String,
    subject: String,
    resolved_by: Option<String>,
}

impl SystemCondition {
    fn alert(&self, id: Uuid, subject: String, now: DateTime<Utc>) -> NewAlert {
        NewAlert {
            id,
            device_id: None,
            alert_type: self.alert_type.to_owned(),
            severity: self.severity,
            message: self.message.clone(),
            value: None,
            threshold: None,
            metadata: Some(self.metadata.clone()),
            origin: AlertOrigin::System,
            rule: None,
            marks: None,
            subject,
            shadow: false,
            backfilled: false,
            created_at: now,
            raised_at: now,
            resolved_at: None,
        }
    }
}

impl Control {
    /// Raises faults of the past, each once for ever. Only a person resolves them.
    pub async fn system_faults(
        &self,
        faults: &[SystemCondition],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let mut applying = Applying::new(now);
        for fault in faults {
            let id = alert_id("", &format!("{}/{}", fault.alert_type, fault.subject), 0);
            let alert = fault.alert(id, fault.subject.clone(), now);
            applying.raise(&mut tx, &alert).await?;
        }
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(())
    }

    /// Makes the open alerts of a source exactly these: raises new ones, and clears those that are not
    /// among them. Alerts of other sources are not touched.
    pub async fn system_alerts(
        &self,
        source: &str,
        conditions: &[SystemCondition],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mine = |condition: &SystemCondition| format!("{source}/{}", condition.subject);
        // Includes those that a person resolved lately, so that they are not raised again at once.
        let known: Vec<KnownAlert> = self
            .fetch_all(
                "SELECT id, alert_type, subject, resolved_by FROM alerts
                 WHERE device_id IS NULL AND origin = 'system' AND (resolved_at IS NULL
                     OR (resolved_by IS NOT NULL AND resolved_at > $1))",
                vec![(now - QUIET_AFTER_RESOLVE).into()],
            )
            .await?;
        let prefix = format!("{source}/");
        let known: Vec<_> =
            known.into_iter().filter(|alert| alert.subject.starts_with(&prefix)).collect();
        let is_of = |alert: &KnownAlert, condition: &SystemCondition| {
            alert.alert_type == condition.alert_type && alert.subject == mine(condition)
        };
        let is_known = |c: &SystemCondition| known.iter().any(|alert| is_of(alert, c));
        let is_wrong = |alert: &KnownAlert| conditions.iter().any(|c| is_of(alert, c));
        let new: Vec<&SystemCondition> = conditions.iter().filter(|c| !is_known(c)).collect();
        let over: Vec<Uuid> = known
            .iter()
            .filter(|alert| alert.resolved_by.is_none() && !is_wrong(alert))
            .map(|alert| alert.id)
            .collect();
        if new.is_empty() && over.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let mut applying = Applying::new(now);
        for condition in new {
            let alert = condition.alert(Uuid::now_v7(), mine(condition), now);
            applying.raise(&mut tx, &alert).await?;
        }
        for id in over {
            applying.clear(&mut tx, id, now, None).await?;
        }
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(())
    }
}
