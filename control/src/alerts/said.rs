//! Alerts that devices raise and clear themselves: kept as they came, so that the episodes are the
//! same in whatever order they do.

use acuvim_schemas::{
    Micros,
    api::AlertOrigin,
    event::{AlertStep, alert_id},
    payload::{AlertState, DeviceAlert},
    time,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    AlertChange, Applying, NewAlert,
    pair::{DeviceEpisode, DeviceSaid, pair},
};
use crate::{Error, db::Tx, value::Value};

/// What became known later than this after it happened pages nobody.
const BACKFILLED_AFTER: TimeDelta = TimeDelta::minutes(15);

/// Clears that lie between two: the message itself, for one phase and for all.
const CLEARS: i64 = 8;

/// Bytes of an alert's metadata; more is left out, since it goes along with every event.
const METADATA: usize = 4096;

impl Applying {
    /// Takes what a device said of an alert of its own; what it said before changes nothing.
    pub async fn said(
        &mut self,
        tx: &mut Tx,
        device_id: &str,
        alert: &DeviceAlert,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let cleared = alert.state == Some(AlertState::Cleared);
        let kind: String = alert.r#type.chars().take(64).collect();
        let phase: String = alert.phase().chars().take(16).collect();
        let key = Key { device_id, kind: &kind, phase: &phase };
        let made = tx
            .execute(
                "INSERT INTO device_said (device_id, alert_type, phase, ts, cleared, body, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (device_id, alert_type, phase, ts, cleared) DO NOTHING",
                vec![
                    device_id.into(),
                    kind.as_str().into(),
                    phase.as_str().into(),
                    alert.ts.0.into(),
                    cleared.into(),
                    body(alert).into(),
                    at.into(),
                ],
            )
            .await?;
        if made == 0 {
            return Ok(());
        }
        self.settle(tx, &key, alert.ts.0, at).await?;
        if cleared && phase.is_empty() {
            // It names no phase: it ends whichever there is.
            for phase in phases(tx, &key).await? {
                let key = Key { phase: &phase, ..key };
                self.settle(tx, &key, alert.ts.0, at).await?;
            }
        }
        Ok(())
    }

    /// Makes the alerts around a moment what they must be by everything that was said.
    async fn settle(
        &mut self,
        tx: &mut Tx,
        key: &Key<'_>,
        ts: Micros,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        // Nothing before the last clear changes, and nothing behind the next.
        let from = key.clear(tx, (i64::MIN, ts - 1), true).await?.unwrap_or(i64::MIN);
        let to = key.clear(tx, (ts + 1, i64::MAX), false).await?.unwrap_or(i64::MAX);
        let said = key.between(tx, from, to).await?;
        let moments: Vec<DeviceSaid> =
            said.iter().map(|s| DeviceSaid { ts: s.ts, cleared: s.cleared }).collect();
        let mut known = key.known(tx, from, to).await?;
        let (mut moved, mut left) = (Vec::new(), Vec::new());
        // Each keeps its own alert; what has none takes one that is left.
        for episode in pair(&moments) {
            let id = key.id(episode.started);
            match known.iter().position(|alert| alert.id == id) {
                Some(at) => moved.push((known.remove(at), episode)),
                None => left.push(episode),
            }
        }
        let mut known = known.into_iter();
        for episode in left {
            match known.next() {
                Some(alert) => moved.push((alert, episode)),
                None => {
                    let first = said.iter().find(|s| s.ts == episode.started && !s.cleared);
                    if let Some(first) = first {
                        self.raise(tx, &key.alert(first, episode, at)).await?;
                    }
                }
            }
        }
        for (alert, episode) in moved {
            self.move_to(tx, &alert, episode).await?;
        }
        // A raise that turned out to be a repetition.
        for alert in known {
            self.change(tx, &AlertChange::Withdraw { id: alert.id }).await?;
        }
        Ok(())
    }

    /// Moves the beginning and the end of an alert to where they are.
    async fn move_to(
        &mut self,
        tx: &mut Tx,
        known: &Known,
        episode: DeviceEpisode,
    ) -> Result<(), Error> {
        let (created, end) = (moment(episode.started), episode.ended.map(moment));
        if known.resolved_at.is_none()
            && let Some(end) = end
        {
            self.clear(tx, known.id, end, None).await?;
        }
        let moved = tx
            .execute(
                "UPDATE alerts SET created_at = $1, raised_at = $1,
                     resolved_at = CASE WHEN resolved_by IS NULL THEN $2 ELSE resolved_at END
                 WHERE id = $3 AND (created_at <> $1 OR (resolved_by IS NULL
                     AND COALESCE(resolved_at, created_at) <> COALESCE($2, created_at)))",
                vec![created.into(), end.into(), known.id.into()],
            )
            .await?;
        match moved {
            0 => Ok(()),
            _ => self.tell(tx, known.id, AlertStep::Amended, created).await,
        }
    }
}

/// One kind of alert on one device and phase.
#[derive(Clone, Copy)]
struct Key<'a> {
    device_id: &'a str,
    kind: &'a str,
    phase: &'a str,
}

#[derive(sqlx::FromRow)]
struct Known {
    id: Uuid,
    resolved_at: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
struct Said {
    ts: i64,
    cleared: bool,
    body: Json,
}

impl Key<'_> {
    fn id(&self, started: Micros) -> Uuid {
        alert_id(self.device_id, &format!("{}/{}", self.kind, self.phase), started)
    }

    fn alert(&self, first: &Said, episode: DeviceEpisode, at: DateTime<Utc>) -> NewAlert {
        let created = moment(first.ts);
        let body = &first.body;
        let severity = body.get("severity").cloned();
        let severity = severity.and_then(|s| serde_json::from_value(s).ok()).unwrap_or_default();
        let message = body
            .get("message")
            .and_then(Json::as_str)
            .map_or_else(|| format!("{}: {}", self.device_id, self.kind), str::to_owned);
        NewAlert {
            id: self.id(first.ts),
            device_id: Some(self.device_id.to_owned()),
            alert_type: self.kind.to_owned(),
            severity,
            message,
            value: body.get("value").and_then(Json::as_f64),
            threshold: body.get("threshold").and_then(Json::as_f64),
            metadata: body.get("metadata").cloned().filter(|m| !m.is_null()),
            origin: AlertOrigin::Device,
            rule: None,
            marks: None,
            subject: self.phase.to_owned(),
            shadow: false,
            backfilled: at - created > BACKFILLED_AFTER,
            created_at: created,
            raised_at: created,
            resolved_at: episode.ended.map(moment),
        }
    }

    /// What matters of what was said after one clear, up to and including the next: the clears, and
    /// the first raise behind each. Repetitions in between, however many, change nothing.
    async fn between(&self, tx: &mut Tx, from: Micros, to: Micros) -> Result<Vec<Said>, Error> {
        let mut said: Vec<Said> = tx
            .fetch_all(
                "SELECT ts, cleared, body FROM device_said
                 WHERE device_id = $1 AND alert_type = $2 AND ts > $4 AND ts <= $5
                     AND (phase = $3 OR phase = '') AND cleared = $6
                 ORDER BY ts LIMIT $7",
                self.values([from.into(), to.into(), true.into(), CLEARS.into()]),
            )
            .await?;
        let behind: Vec<Micros> = [from].into_iter().chain(said.iter().map(|s| s.ts)).collect();
        for after in behind {
            let first: Option<Said> = tx
                .fetch_optional(
                    "SELECT ts, cleared, body FROM device_said
                     WHERE device_id = $1 AND alert_type = $2 AND ts > $4 AND ts <= $5
                         AND phase = $3 AND cleared = $6
                     ORDER BY ts LIMIT $7",
                    self.values([after.into(), to.into(), false.into(), 1_i64.into()]),
                )
                .await?;
            said.extend(first);
        }
        Ok(said)
    }

    fn values(&self, more: [Value; 4]) -> Vec<Value> {
        let key = [self.device_id, self.kind, self.phase];
        key.into_iter().map(Value::from).chain(more).collect()
    }

    /// The alerts that began after one clear, up to the next.
    async fn known(&self, tx: &mut Tx, from: Micros, to: Micros) -> Result<Vec<Known>, Error> {
        tx.fetch_all(
            "SELECT id, resolved_at FROM alerts
             WHERE device_id = $1 AND alert_type = $2 AND subject = $3 AND origin = 'device'
                 AND withdrawn = $4 AND created_at > $5 AND created_at <= $6
             ORDER BY created_at",
            vec![
                self.device_id.into(),
                self.kind.into(),
                self.phase.into(),
                false.into(),
                moment(from).into(),
                moment(to).into(),
            ],
        )
        .await
    }

    async fn clear(
        &self,
        tx: &mut Tx,
        (at_least, at_most): (Micros, Micros),
        newest: bool,
    ) -> Result<Option<Micros>, Error> {
        let text = match newest {
            true => {
                "SELECT MAX(ts) FROM device_said WHERE device_id = $1 AND alert_type = $2
                     AND (phase = $3 OR phase = '') AND cleared = $4 AND ts >= $5 AND ts <= $6"
            }
            false => {
                "SELECT MIN(ts) FROM device_said WHERE device_id = $1 AND alert_type = $2
                     AND (phase = $3 OR phase = '') AND cleared = $4 AND ts >= $5 AND ts <= $6"
            }
        };
        let found: Option<(Option<i64>,)> = tx
            .fetch_optional(
                text,
                vec![
                    self.device_id.into(),
                    self.kind.into(),
                    self.phase.into(),
                    true.into(),
                    at_least.into(),
                    at_most.into(),
                ],
            )
            .await?;
        Ok(found.and_then(|(ts,)| ts))
    }
}

/// The time, within what both databases can hold.
fn moment(ts: Micros) -> DateTime<Utc> {
    const FAR: Micros = 9000 * 365 * time::DAY;
    time::to_datetime(ts.clamp(-FAR / 10, FAR / 2)).unwrap_or_default()
}

async fn phases(tx: &mut Tx, key: &Key<'_>) -> Result<Vec<String>, Error> {
    let rows: Vec<(String,)> = tx
        .fetch_all(
            "SELECT DISTINCT phase FROM device_said
             WHERE device_id = $1 AND alert_type = $2 AND phase <> '' LIMIT 16",
            vec![key.device_id.into(), key.kind.into()],
        )
        .await?;
    Ok(rows.into_iter().map(|(phase,)| phase).collect())
}

fn body(alert: &DeviceAlert) -> Json {
    let metadata = alert.extra.get("metadata");
    let metadata = metadata.filter(|metadata| metadata.to_string().len() <= METADATA);
    json!({
        "severity": alert.severity,
        "message": alert.message.as_ref().map(|m| m.chars().take(500).collect::<String>()),
        "value": alert.value,
        "threshold": alert.threshold,
        "metadata": metadata,
    })
}
