//! What people do about alerts: acknowledge and resolve them.

use acuvim_model::{Alert, Scope, event::AlertStep};
use serde_json::json;
use uuid::Uuid;

use super::{
    event::{AlertNote, emit_alert},
    list::AlertFilter,
};
use crate::{
    audit::By,
    db::{Control, Tx},
    error::Error,
    statement::Statement,
};

/// Alerts that one request acknowledges at most. Each is an event, in one transaction that others wait for.
const MAX_ACKNOWLEDGED: i64 = 10_000;

impl Control {
    /// Acknowledges an alert. `None` if there is no such alert in the scope. Idempotent.
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

    /// Acknowledges these alerts or, with a filter, all that match it. Returns the number of those that
    /// were not acknowledged before.
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
        find.push("ORDER BY a.created_at LIMIT ?", [MAX_ACKNOWLEDGED.into()]);
        let found: Vec<(Uuid,)> = tx.select(find).await?;
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

    /// Resolves an alert for a person. `None` if there is no such alert in the scope. Its rule does not
    /// raise it again until its condition has ended.
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
        if end(&mut tx, id, None, by).await? {
            tx.audit(by, "alert.resolve", &id.to_string(), json!({})).await?;
        }
        let alert = tx.alert(id, scope).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(alert)
    }
}

impl Tx {
    /// Resolves all open alerts of a device that a person takes away. Its conditions can't end by
    /// themselves any more, so people would be reminded of them for ever.
    pub(crate) async fn resolve_alerts_of(
        &mut self,
        device_id: &str,
        reason: &str,
        by: &By,
    ) -> Result<(), Error> {
        let open: Vec<(Uuid,)> = self
            .fetch_all(
                "SELECT id FROM alerts WHERE device_id = $1 AND resolved_at IS NULL
                 ORDER BY created_at",
                vec![device_id.into()],
            )
            .await?;
        for (id,) in open {
            end(self, id, Some(reason), by).await?;
        }
        Ok(())
    }
}

/// Resolves an alert. False if it had ended already.
async fn end(tx: &mut Tx, id: Uuid, note: Option<&str>, by: &By) -> Result<bool, Error> {
    let ended = tx
        .execute(
            "UPDATE alerts SET resolved_at = $1, resolved_by = $2, resolution = 'resolved'
             WHERE id = $3 AND resolved_at IS NULL",
            vec![by.at.into(), by.name.as_str().into(), id.into()],
        )
        .await?;
    if ended == 0 {
        return Ok(false);
    }
    emit_alert(tx, id, AlertNote::of_person(AlertStep::Resolved, by, note)).await?;
    Ok(true)
}

/// Acknowledges an alert. False if it was acknowledged before.
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
    let step = AlertNote::of_person(AlertStep::Acknowledged, by, note);
    emit_alert(tx, id, step).await?;
    Ok(true)
}
