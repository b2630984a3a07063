//! Alerts about the system itself: what is wrong at present, against what was wrong before.

use acuvim_schemas::{api::AlertOrigin, event::alert_id, payload::Severity};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Applying, NewAlert};
use crate::{Control, Error};

/// Something that is wrong with the system.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemCondition {
    /// What kind of thing: `ledger_unbalanced`, `component_away`, ...
    pub alert_type: &'static str,
    /// What tells it apart from others of its kind.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// In words, with what to do.
    pub message: String,
    /// More.
    pub metadata: Json,
}

/// How long a condition that a person has ended is left alone while it goes on.
const LEFT_ALONE: TimeDelta = TimeDelta::hours(1);

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
    /// Raises what was found wrong, each once for ever: a fault of the past is over when a person says
    /// so.
    ///
    /// # Errors
    /// When the database can't be asked.
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

    /// Makes the open system alerts of a source exactly these: raises what is new, clears what is
    /// over. A source sees only its own.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn system_alerts(
        &self,
        source: &str,
        conditions: &[SystemCondition],
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mine = |condition: &SystemCondition| format!("{source}/{}", condition.subject);
        // What a person has just ended is not raised again at the next look.
        let known: Vec<(Uuid, String, String, Option<String>)> = self
            .fetch_all(
                "SELECT id, alert_type, subject, resolved_by FROM alerts
                 WHERE device_id IS NULL AND origin = 'system' AND (resolved_at IS NULL
                     OR (resolved_by IS NOT NULL AND resolved_at > $1))",
                vec![(now - LEFT_ALONE).into()],
            )
            .await?;
        let prefix = format!("{source}/");
        let known: Vec<_> =
            known.into_iter().filter(|(_, _, subject, _)| subject.starts_with(&prefix)).collect();
        let is_open = |c: &SystemCondition| {
            known.iter().any(|(_, kind, subject, _)| *kind == c.alert_type && *subject == mine(c))
        };
        let is_wrong = |kind: &str, subject: &str| {
            conditions.iter().any(|c| c.alert_type == kind && mine(c) == subject)
        };
        let new: Vec<&SystemCondition> = conditions.iter().filter(|c| !is_open(c)).collect();
        let over: Vec<Uuid> = known
            .iter()
            .filter(|(_, kind, subject, by)| by.is_none() && !is_wrong(kind, subject))
            .map(|(id, ..)| *id)
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
