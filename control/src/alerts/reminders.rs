//! Reminders of alerts that nobody has acknowledged, and their escalation.

use acuvim_model::event::AlertStep;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::event::{AlertNote, emit_alert};
use crate::{
    db::{Control, Tx},
    error::Error,
    statement::Statement,
};

/// Reminders in one transaction. Others follow at the next call, since they are still due.
const MAX_REMINDERS: i64 = 200;

/// When people are reminded of unacknowledged alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reminders {
    /// The time from the alert to the first reminder, and between reminders.
    pub every: TimeDelta,
    /// The time from the alert to its escalation, which happens once.
    pub escalate_after: TimeDelta,
}

impl Default for Reminders {
    fn default() -> Self {
        Self { every: TimeDelta::hours(1), escalate_after: TimeDelta::hours(4) }
    }
}

impl Control {
    /// Emits the reminders and escalations that are due, one for each incident. Returns their number.
    pub async fn remind(&self, reminders: &Reminders, now: DateTime<Utc>) -> Result<u64, Error> {
        let mut tx = self.begin().await?;
        let due = due_reminders(&mut tx, reminders, now).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let count = due.len() as u64;
        for alert in due {
            let late = now - alert.recorded_at >= reminders.escalate_after;
            let escalates = alert.escalated_at.is_none() && late;
            let step = if escalates { AlertStep::Escalated } else { AlertStep::Reminded };
            // All alerts of the incident, so that none of them reminds again at a time of its own.
            tx.execute(
                "UPDATE alerts SET reminded_at = $1,
                     escalated_at = CASE WHEN $2 THEN $1 ELSE escalated_at END
                 WHERE incident_id = (SELECT incident_id FROM alerts WHERE id = $3)
                     AND resolved_at IS NULL",
                vec![now.into(), escalates.into(), alert.id.into()],
            )
            .await?;
            emit_alert(&mut tx, alert.id, AlertNote::of(step, now, now)).await?;
        }
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(count)
    }
}

/// An alert that people are to be reminded of.
#[derive(sqlx::FromRow)]
struct DueAlert {
    id: Uuid,
    recorded_at: DateTime<Utc>,
    escalated_at: Option<DateTime<Utc>>,
}

/// The alerts that are due, one for each incident.
async fn due_reminders(
    tx: &mut Tx,
    reminders: &Reminders,
    now: DateTime<Utc>,
) -> Result<Vec<DueAlert>, Error> {
    let mut find = Statement::new(
        "SELECT a.id, a.recorded_at, a.escalated_at FROM alerts a
             WHERE a.resolved_at IS NULL AND a.severity <> 'info'",
    );
    find.push(
        "AND a.acknowledged = ? AND a.silenced = ? AND a.backfilled = ? AND a.shadow = ?",
        [false.into(), false.into(), false.into(), false.into()],
    );
    find.push(
        "AND (COALESCE(a.reminded_at, a.recorded_at) <= ?
                 OR (a.escalated_at IS NULL AND a.recorded_at <= ?))
             AND NOT EXISTS (SELECT 1 FROM alerts o
                 WHERE o.incident_id = a.incident_id AND o.acknowledged = ?)",
        [(now - reminders.every).into(), (now - reminders.escalate_after).into(), true.into()],
    );
    // One alert stands for its incident: the first of those that page people.
    find.push(
        "AND NOT EXISTS (SELECT 1 FROM alerts o
                 WHERE o.incident_id = a.incident_id AND o.id < a.id AND o.resolved_at IS NULL
                     AND o.severity <> 'info' AND o.silenced = ? AND o.backfilled = ?
                     AND o.shadow = ?)
             ORDER BY a.recorded_at LIMIT ?",
        [false.into(), false.into(), false.into(), MAX_REMINDERS.into()],
    );
    tx.select(find).await
}
