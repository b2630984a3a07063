//! Applying changes of alerts in a transaction, each with its event.

use std::collections::HashMap;

use acuvim_model::{
    AlertOrigin, Silence,
    event::{AlertStep, Marks},
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    event::{AlertNote, emit_alert},
    model::{AlertChange, NewAlert},
};
use crate::{db::Tx, error::Error, statement::Statement};

/// Alerts of one type in one group that begin within this time of each other are one incident.
const INCIDENT: TimeDelta = TimeDelta::minutes(5);

/// Applies changes of alerts, and caches what it looks up, for the length of one transaction.
pub(crate) struct Applying {
    /// The time at which the changes become known.
    pub now: DateTime<Utc>,
    silences: Option<Vec<Silence>>,
    memberships: HashMap<String, Membership>,
    /// Whether rules are switched on.
    rules: HashMap<Uuid, bool>,
}

/// The group and tags of a device.
#[derive(Debug, Clone, Default)]
struct Membership {
    group_id: Option<Uuid>,
    tags: Vec<String>,
}

/// The times of an episode.
struct EpisodeTimes {
    created_at: DateTime<Utc>,
    raised_at: DateTime<Utc>,
    resolved_at: Option<DateTime<Utc>>,
}

impl Applying {
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { now, silences: None, memberships: HashMap::new(), rules: HashMap::new() }
    }

    pub async fn change(&mut self, tx: &mut Tx, change: &AlertChange) -> Result<(), Error> {
        match change {
            AlertChange::Raise(alert) => self.raise(tx, alert).await,
            AlertChange::Clear { id, at, marks } => self.clear(tx, *id, *at, marks.as_ref()).await,
            AlertChange::Amend { id, created_at, raised_at, resolved_at, marks } => {
                let times = EpisodeTimes {
                    created_at: *created_at,
                    raised_at: *raised_at,
                    resolved_at: *resolved_at,
                };
                self.amend(tx, *id, &times, marks).await
            }
            AlertChange::Withdraw { id } => self.withdraw(tx, *id).await,
        }
    }

    /// Raises an alert. Idempotent: an alert that exists already stays as it is.
    pub async fn raise(&mut self, tx: &mut Tx, new: &NewAlert) -> Result<(), Error> {
        if let Some((rule, _)) = new.rule
            && !self.is_live(tx, rule).await?
        {
            return Ok(());
        }
        let membership = match &new.device_id {
            Some(device_id) => self.membership(tx, device_id).await?,
            None => Membership::default(),
        };
        let silenced = self.is_silenced(tx, new, &membership).await?;
        let incident = incident(tx, new, membership.group_id).await?;
        if !insert(tx, new, &membership, Placed { silenced, incident }, self.now).await? {
            return self.restore(tx, new).await;
        }
        self.emit(tx, new.id, AlertStep::Raised, new.raised_at).await?;
        match new.resolved_at {
            Some(at) => self.emit(tx, new.id, AlertStep::Cleared, at).await,
            None => Ok(()),
        }
    }

    /// Restores an alert that was withdrawn, because its condition held after all. An alert that a person
    /// had resolved keeps that end.
    async fn restore(&self, tx: &mut Tx, new: &NewAlert) -> Result<(), Error> {
        let marks = new.marks.as_ref().and_then(|marks| serde_json::to_string(marks).ok());
        let restored = tx
            .execute(
                "UPDATE alerts SET withdrawn = $1, created_at = $2, raised_at = $3,
                     resolved_at = CASE WHEN resolved_by IS NULL THEN $4 ELSE resolved_at END,
                     resolution = CASE WHEN resolved_by IS NULL THEN $5 ELSE 'resolved' END,
                     marks = $6
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
            _ => self.emit(tx, new.id, AlertStep::Amended, new.created_at).await,
        }
    }

    /// Ends an alert because its condition ended. An alert that a person resolved keeps that end.
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
            return self.emit(tx, id, AlertStep::Cleared, at).await;
        }
        // A person resolved it before. Its marks are updated all the same, so that a repair knows the
        // end of the condition.
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
        times: &EpisodeTimes,
        marks: &Marks,
    ) -> Result<(), Error> {
        let EpisodeTimes { created_at, raised_at, resolved_at } = *times;
        // An alert that a person resolved keeps that end.
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
                    // Known only long after its end, unless it is still open.
                    resolved_at.is_some().into(),
                    resolved_at.into(),
                    resolved_at.map(|_| "cleared").into(),
                    id.into(),
                ],
            )
            .await?;
        match amended {
            0 => Ok(()),
            _ => self.emit(tx, id, AlertStep::Amended, created_at).await,
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
            _ => self.emit(tx, id, AlertStep::Withdrawn, self.now).await,
        }
    }

    /// Emits a step of an alert.
    pub async fn emit(
        &self,
        tx: &mut Tx,
        id: Uuid,
        step: AlertStep,
        ts: DateTime<Utc>,
    ) -> Result<(), Error> {
        emit_alert(tx, id, AlertNote::of(step, ts, self.now)).await
    }

    /// Whether a rule exists and is switched on. A rule may be deleted while its alerts are on their way
    /// here.
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

    async fn membership(&mut self, tx: &mut Tx, device_id: &str) -> Result<Membership, Error> {
        if let Some(membership) = self.memberships.get(device_id) {
            return Ok(membership.clone());
        }
        let found: Option<(Option<Uuid>, Option<serde_json::Value>)> = tx
            .fetch_optional(
                "SELECT group_id, tags FROM devices WHERE device_id = $1",
                vec![device_id.into()],
            )
            .await?;
        let (group_id, tags) = found.unwrap_or_default();
        let tags = tags.and_then(|tags| serde_json::from_value(tags).ok()).unwrap_or_default();
        let membership = Membership { group_id, tags };
        self.memberships.insert(device_id.to_owned(), membership.clone());
        Ok(membership)
    }

    async fn is_silenced(
        &mut self,
        tx: &mut Tx,
        new: &NewAlert,
        membership: &Membership,
    ) -> Result<bool, Error> {
        let silences = match &self.silences {
            Some(silences) => silences,
            // By the time at which people would be paged, which may be long after the event.
            None => self.silences.insert(tx.silences_at(self.now).await?),
        };
        let device_id = new.device_id.as_deref();
        let hits = |silence: &Silence| {
            let about =
                silence.alert_types.is_empty() || silence.alert_types.contains(&new.alert_type);
            let there = match device_id {
                Some(device_id) => {
                    silence.scope.has(device_id, membership.group_id, &membership.tags)
                }
                None => silence.scope.is_all(),
            };
            about && there
        };
        Ok(silences.iter().any(hits))
    }
}

/// What is looked up for a new alert.
#[derive(Clone, Copy)]
struct Placed {
    silenced: bool,
    incident: Uuid,
}

/// Inserts an alert. False if there is one of that id.
async fn insert(
    tx: &mut Tx,
    new: &NewAlert,
    membership: &Membership,
    placed: Placed,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
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
                membership.group_id.into(),
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
                placed.silenced.into(),
                false.into(),
                false.into(),
                new.created_at.into(),
                new.raised_at.into(),
                now.into(),
                new.resolved_at.into(),
                resolution.into(),
                placed.incident.into(),
            ],
        )
        .await?;
    Ok(made == 1)
}

/// The incident of an alert: that of an alert of the same type in the same group which began at about the
/// same time, or a new one. Devices without a group share incidents of health only, because an outage of
/// the site's network has one cause, while their readings have nothing in common.
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
    // The newest, so that an outage which spreads from device to device stays one incident.
    find.push("ORDER BY created_at DESC LIMIT 1", []);
    let found: Option<(Option<Uuid>,)> = tx.select_one(find).await?;
    Ok(found.and_then(|(id,)| id).unwrap_or(new.id))
}
