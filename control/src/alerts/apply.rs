//! Changes of alerts inside the stream's transaction, each with its event in the outbox.

use std::collections::HashMap;

use acuvim_schemas::{
    api::{Alert, AlertOrigin, Silence},
    event::{AlertEvent, AlertStep, Event, Marks},
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{AlertChange, AlertRow, COLUMNS, NewAlert};
use crate::{Error, db::Tx, text::Statement};

/// Alerts of one kind in one group that begin within this time of each other are one incident.
const INCIDENT: TimeDelta = TimeDelta::minutes(5);

/// What one transaction has already looked up.
pub(crate) struct Applying {
    /// The time at which all of it is applied.
    pub now: DateTime<Utc>,
    silences: Option<Vec<Silence>>,
    places: HashMap<String, (Option<Uuid>, Vec<String>)>,
    rules: HashMap<Uuid, bool>,
}

impl Applying {
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { now, silences: None, places: HashMap::new(), rules: HashMap::new() }
    }

    pub async fn change(&mut self, tx: &mut Tx, change: &AlertChange) -> Result<(), Error> {
        match change {
            AlertChange::Raise(alert) => self.raise(tx, alert).await,
            AlertChange::Clear { id, at, marks } => self.clear(tx, *id, *at, marks.as_ref()).await,
            AlertChange::Amend { id, created_at, raised_at, resolved_at, marks } => {
                let times = (*created_at, *raised_at, *resolved_at);
                self.amend(tx, *id, times, marks).await
            }
            AlertChange::Withdraw { id } => self.withdraw(tx, *id).await,
        }
    }

    /// Raises an alert, once: one that is there already stays as it is.
    pub async fn raise(&mut self, tx: &mut Tx, new: &NewAlert) -> Result<(), Error> {
        if let Some((rule, _)) = new.rule
            && !self.is_live(tx, rule).await?
        {
            return Ok(());
        }
        let (group_id, tags) = match &new.device_id {
            Some(device_id) => self.place(tx, device_id).await?,
            None => (None, Vec::new()),
        };
        let silenced = self.is_silenced(tx, new, group_id, &tags).await?;
        let incident = incident(tx, new, group_id).await?;
        let marks = new.marks.as_ref().and_then(|marks| serde_json::to_string(marks).ok());
        let resolution = new.resolved_at.map(|_| "cleared");
        let made = tx
            .execute(
                "INSERT INTO alerts (id, device_id, group_id, alert_type, severity, message, value,
                     threshold, metadata, origin, rule_id, rule_version, marks, subject, shadow,
                     backfilled, silenced, withdrawn, acknowledged, created_at, raised_at,
                     recorded_at, resolved_at, resolution, incident_id)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                     $17, $18, $19, $20, $21, $22, $23, $24, $25)
                 ON CONFLICT (id) DO NOTHING",
                vec![
                    new.id.into(),
                    new.device_id.clone().into(),
                    group_id.into(),
                    new.alert_type.as_str().into(),
                    new.severity.as_str().into(),
                    new.message.as_str().into(),
                    new.value.into(),
                    new.threshold.into(),
                    new.metadata.clone().into(),
                    new.origin.as_str().into(),
                    new.rule.map(|(id, _)| id).into(),
                    new.rule.map(|(_, version)| version).into(),
                    marks.into(),
                    new.subject.as_str().into(),
                    new.shadow.into(),
                    new.backfilled.into(),
                    silenced.into(),
                    false.into(),
                    false.into(),
                    new.created_at.into(),
                    new.raised_at.into(),
                    self.now.into(),
                    new.resolved_at.into(),
                    resolution.into(),
                    incident.into(),
                ],
            )
            .await?;
        if made == 0 {
            return self.restore(tx, new).await;
        }
        self.tell(tx, new.id, AlertStep::Raised, new.raised_at).await?;
        match new.resolved_at {
            Some(at) => self.tell(tx, new.id, AlertStep::Cleared, at).await,
            None => Ok(()),
        }
    }

    /// An episode that was withdrawn, and is there after all.
    async fn restore(&self, tx: &mut Tx, new: &NewAlert) -> Result<(), Error> {
        let marks = new.marks.as_ref().and_then(|marks| serde_json::to_string(marks).ok());
        let restored = tx
            .execute(
                "UPDATE alerts SET withdrawn = $1, created_at = $2, raised_at = $3,
                     resolved_at = $4, resolution = $5, marks = $6
                 WHERE id = $7 AND withdrawn = $8",
                vec![
                    false.into(),
                    new.created_at.into(),
                    new.raised_at.into(),
                    new.resolved_at.into(),
                    new.resolved_at.map(|_| "cleared").into(),
                    marks.into(),
                    new.id.into(),
                    true.into(),
                ],
            )
            .await?;
        match restored {
            0 => Ok(()),
            _ => self.tell(tx, new.id, AlertStep::Amended, new.created_at).await,
        }
    }

    /// Ends an alert with its condition; one that a person ended before keeps that end.
    pub async fn clear(
        &mut self,
        tx: &mut Tx,
        id: Uuid,
        at: DateTime<Utc>,
        marks: Option<&Marks>,
    ) -> Result<(), Error> {
        let marks = marks.and_then(|marks| serde_json::to_string(marks).ok());
        let ended = tx
            .execute(
                "UPDATE alerts SET resolved_at = $1, resolution = 'cleared',
                     marks = COALESCE($2, marks)
                 WHERE id = $3 AND resolved_at IS NULL AND withdrawn = $4",
                vec![at.into(), marks.clone().into(), id.into(), false.into()],
            )
            .await?;
        if ended > 0 {
            return self.tell(tx, id, AlertStep::Cleared, at).await;
        }
        // A person ended it before: that its condition is over now is noted all the same.
        tx.execute(
            "UPDATE alerts SET marks = COALESCE($1, marks) WHERE id = $2",
            vec![marks.into(), id.into()],
        )
        .await
        .map(|_| ())
    }

    async fn amend(
        &mut self,
        tx: &mut Tx,
        id: Uuid,
        (created_at, raised_at, resolved_at): (DateTime<Utc>, DateTime<Utc>, Option<DateTime<Utc>>),
        marks: &Marks,
    ) -> Result<(), Error> {
        // What a person ended stays ended, at the person's time.
        let amended = tx
            .execute(
                "UPDATE alerts SET created_at = $1, raised_at = $2, marks = $3, backfilled = (backfilled OR $4),
                     resolved_at = CASE WHEN resolved_by IS NULL THEN $5 ELSE resolved_at END,
                     resolution = CASE WHEN resolved_by IS NULL THEN $6 ELSE resolution END
                 WHERE id = $7",
                vec![
                    created_at.into(),
                    raised_at.into(),
                    serde_json::to_string(marks).ok().into(),
                    // One that is open still is somebody's to look at.
                    resolved_at.is_some().into(),
                    resolved_at.into(),
                    resolved_at.map(|_| "cleared").into(),
                    id.into(),
                ],
            )
            .await?;
        match amended {
            0 => Ok(()),
            _ => self.tell(tx, id, AlertStep::Amended, created_at).await,
        }
    }

    async fn withdraw(&mut self, tx: &mut Tx, id: Uuid) -> Result<(), Error> {
        let withdrawn = tx
            .execute(
                "UPDATE alerts SET withdrawn = $1, resolution = 'withdrawn',
                     resolved_at = COALESCE(resolved_at, created_at)
                 WHERE id = $2 AND withdrawn = $3",
                vec![true.into(), id.into(), false.into()],
            )
            .await?;
        match withdrawn {
            0 => Ok(()),
            _ => self.tell(tx, id, AlertStep::Withdrawn, self.now).await,
        }
    }

    /// Puts an alert's step into the outbox.
    pub async fn tell(
        &self,
        tx: &mut Tx,
        id: Uuid,
        step: AlertStep,
        ts: DateTime<Utc>,
    ) -> Result<(), Error> {
        tx.tell_alert(id, step, ts, self.now, None, None).await
    }

    async fn is_live(&mut self, tx: &mut Tx, rule: Uuid) -> Result<bool, Error> {
        if let Some(live) = self.rules.get(&rule) {
            return Ok(*live);
        }
        let found: Option<(String,)> =
            tx.fetch_optional("SELECT mode FROM rules WHERE id = $1", vec![rule.into()]).await?;
        let live = found.is_some_and(|(mode,)| mode != "off");
        self.rules.insert(rule, live);
        Ok(live)
    }

    /// A device's group and tags.
    async fn place(
        &mut self,
        tx: &mut Tx,
        device_id: &str,
    ) -> Result<(Option<Uuid>, Vec<String>), Error> {
        if let Some(place) = self.places.get(device_id) {
            return Ok(place.clone());
        }
        let found: Option<(Option<Uuid>, Option<serde_json::Value>)> = tx
            .fetch_optional(
                "SELECT group_id, tags FROM devices WHERE device_id = $1",
                vec![device_id.into()],
            )
            .await?;
        let (group, tags) = found.unwrap_or_default();
        let tags = tags.and_then(|tags| serde_json::from_value(tags).ok()).unwrap_or_default();
        self.places.insert(device_id.to_owned(), (group, tags));
        Ok(self.places.get(device_id).cloned().unwrap_or_default())
    }

    async fn is_silenced(
        &mut self,
        tx: &mut Tx,
        new: &NewAlert,
        group_id: Option<Uuid>,
        tags: &[String],
    ) -> Result<bool, Error> {
        let silences = match &self.silences {
            Some(silences) => silences,
            None => self.silences.insert(tx.silences_at(self.now).await?),
        };
        let device_id = new.device_id.as_deref();
        let hits = |silence: &Silence| {
            let about =
                silence.alert_types.is_empty() || silence.alert_types.contains(&new.alert_type);
            let there = match device_id {
                Some(device_id) => silence.scope.has(device_id, group_id, tags),
                None => silence.scope.is_all(),
            };
            about && there
        };
        Ok(silences.iter().any(hits))
    }
}

/// The incident that an alert belongs to: one of the same kind in the same group that began a moment
/// before or after, or its own. Devices without a group share their outages alone.
async fn incident(tx: &mut Tx, new: &NewAlert, group: Option<Uuid>) -> Result<Uuid, Error> {
    if new.device_id.is_none() || (group.is_none() && new.origin != AlertOrigin::Health) {
        return Ok(new.id);
    }
    let mut find = Statement::new("SELECT incident_id FROM alerts WHERE alert_type =");
    find.push("? AND", [new.alert_type.as_str().into()]);
    match group {
        Some(group) => find.push("group_id = ?", [group.into()]),
        None => find.push("group_id IS NULL AND device_id IS NOT NULL", []),
    }
    find.push(
        "AND created_at >= ? AND created_at <= ? AND shadow = ? AND withdrawn = ?",
        [
            (new.created_at - INCIDENT).into(),
            (new.created_at + INCIDENT).into(),
            new.shadow.into(),
            false.into(),
        ],
    );
    find.push("ORDER BY created_at DESC LIMIT 1", []);
    let (text, values) = find.into_parts();
    let found: Option<(Option<Uuid>,)> = tx.fetch_optional(text, values).await?;
    Ok(found.and_then(|(id,)| id).unwrap_or(new.id))
}

impl Tx {
    /// Puts an alert's step into the outbox, with the alert as it is now.
    pub(crate) async fn tell_alert(
        &mut self,
        id: Uuid,
        step: AlertStep,
        ts: DateTime<Utc>,
        now: DateTime<Utc>,
        by: Option<&str>,
        note: Option<&str>,
    ) -> Result<(), Error> {
        let mut one = Statement::new("SELECT");
        one.push(COLUMNS, []);
        one.push("FROM alerts a WHERE a.id = ?", [id.into()]);
        let (text, values) = one.into_parts();
        let Some(row) = self.fetch_optional::<AlertRow>(text, values).await? else {
            return Ok(());
        };
        let readings = row.marks().map(|marks| marks.readings()).unwrap_or_default();
        let event = AlertEvent {
            event_id: Uuid::now_v7(),
            step,
            ts,
            recorded_at: now,
            by: by.map(str::to_owned),
            note: note.map(str::to_owned),
            readings,
            alert: Alert::from(row),
        };
        self.emit(&Event::Alert(Box::new(event)), now).await
    }
}
