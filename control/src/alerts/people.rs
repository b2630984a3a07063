//! What people do about alerts, and what is done when nobody does.

use acuvim_schemas::{
    api::{Alert, Scope},
    event::AlertStep,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::AlertFilter;
use crate::{By, Control, Error, db::Tx, text::Statement};

/// Alerts that one request acknowledges at most; and reminders of one look.
const MOST: i64 = 10_000;
const PAGE: i64 = 200;

/// When somebody is reminded of an alert that nobody has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reminders {
    /// How long after it was recorded, and after the reminder before.
    pub every: TimeDelta,
    /// How long after it was recorded it is escalated, once.
    pub escalate_after: TimeDelta,
}

impl Default for Reminders {
    fn default() -> Self {
        Self { every: TimeDelta::hours(1), escalate_after: TimeDelta::hours(4) }
    }
}

impl Control {
    /// Notes that a person has seen an alert; none if there is no such alert. Doing it again changes
    /// nothing.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn acknowledge(
        &self,
        id: Uuid,
        note: Option<&str>,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<Option<Alert>, Error> {
        let mut tx = self.begin().await?;
        if tx.alert(id, scope).await?.is_none() {
            return Ok(None);
        }
        if acknowledge(&mut tx, id, note, by).await? {
            let detail = json!({ "note": note });
            tx.audit(by, "alert.acknowledge", &id.to_string(), detail).await?;
        }
        let alert = tx.alert(id, scope).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(alert)
    }

    /// Acknowledges many at once: these, or all open ones that match. Answers with how many were not
    /// acknowledged before.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn acknowledge_many(
        &self,
        ids: &[Uuid],
        filter: Option<&AlertFilter>,
        note: Option<&str>,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<i64, Error> {
        let mut tx = self.begin().await?;
        let mut find = Statement::new("SELECT a.id");
        match filter {
            Some(filter) => find.append(&filter.conditions(scope)),
            None => {
                find.append(&AlertFilter::default().conditions(scope));
                find.push("AND a.id IN", []);
                find.push_list(ids.iter().map(|id| (*id).into()));
            }
        }
        find.push("ORDER BY a.created_at LIMIT ?", [MOST.into()]);
        let (text, values) = find.into_parts();
        let found: Vec<(Uuid,)> = tx.fetch_all(text, values).await?;
        let mut count = 0;
        for (id,) in found {
            count += i64::from(acknowledge(&mut tx, id, note, by).await?);
        }
        let detail = json!({ "note": note, "acknowledged": count });
        tx.audit(by, "alert.acknowledge_many", "alerts", detail).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(count)
    }

    /// Ends an alert by a person's word; none if there is no such alert. Its rule does not raise it
    /// again before its condition has ended.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn resolve(
        &self,
        id: Uuid,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<Option<Alert>, Error> {
        let mut tx = self.begin().await?;
        if tx.alert(id, scope).await?.is_none() {
            return Ok(None);
        }
        let ended = tx
            .execute(
                "UPDATE alerts SET resolved_at = $1, resolved_by = $2, resolution = 'resolved'
                 WHERE id = $3 AND resolved_at IS NULL",
                vec![by.at.into(), by.name.as_str().into(), id.into()],
            )
            .await?;
        if ended == 1 {
            let step = AlertStep::Resolved;
            tx.tell_alert(id, step, by.at, by.at, Some(&by.name), None).await?;
            tx.audit(by, "alert.resolve", &id.to_string(), json!({})).await?;
        }
        let alert = tx.alert(id, scope).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(alert)
    }

    /// Reminds of alerts that nobody has acknowledged, and escalates those for which nobody did for
    /// long: one of each incident. Answers with how many.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn remind(&self, reminders: &Reminders, now: DateTime<Utc>) -> Result<u64, Error> {
        let mut tx = self.begin().await?;
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
        // One speaks for its incident: the first of those that somebody is to be told of.
        find.push(
            "AND NOT EXISTS (SELECT 1 FROM alerts o
                 WHERE o.incident_id = a.incident_id AND o.id < a.id AND o.resolved_at IS NULL
                     AND o.severity <> 'info' AND o.silenced = ? AND o.backfilled = ?
                     AND o.shadow = ?)
             ORDER BY a.recorded_at LIMIT ?",
            [false.into(), false.into(), false.into(), PAGE.into()],
        );
        let (text, values) = find.into_parts();
        let due: Vec<(Uuid, DateTime<Utc>, Option<DateTime<Utc>>)> =
            tx.fetch_all(text, values).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let count = due.len() as u64;
        for (id, recorded, escalated) in due {
            let escalates = escalated.is_none() && now - recorded >= reminders.escalate_after;
            let step = if escalates { AlertStep::Escalated } else { AlertStep::Reminded };
            tx.execute(
                "UPDATE alerts SET reminded_at = $1,
                     escalated_at = CASE WHEN $2 THEN $1 ELSE escalated_at END
                 WHERE incident_id = (SELECT incident_id FROM alerts WHERE id = $3)
                     AND resolved_at IS NULL",
                vec![now.into(), escalates.into(), id.into()],
            )
            .await?;
            tx.tell_alert(id, step, now, now, None, None).await?;
        }
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(count)
    }
}

async fn acknowledge(tx: &mut Tx, id: Uuid, note: Option<&str>, by: &By) -> Result<bool, Error> {
    let seen = tx
        .execute(
            "UPDATE alerts SET acknowledged = $1, acknowledged_by = $2, acknowledged_at = $3,
                 acknowledge_note = $4
             WHERE id = $5 AND acknowledged = $6",
            vec![
                true.into(),
                by.name.as_str().into(),
                by.at.into(),
                note.into(),
                id.into(),
                false.into(),
            ],
        )
        .await?;
    if seen == 0 {
        return Ok(false);
    }
    tx.tell_alert(id, AlertStep::Acknowledged, by.at, by.at, Some(&by.name), note).await?;
    Ok(true)
}
