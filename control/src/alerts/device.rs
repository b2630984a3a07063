//! Alerts that devices raise and clear themselves. Every raise and clear is stored, and the episodes
//! around a new one are computed from them again, so that the order of arrival does not matter.

use acuvim_model::{
    AlertOrigin,
    event::{AlertStep, alert_id},
};
use acuvim_wire::{
    Micros,
    payload::{AlertState, DeviceAlert},
    time,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    apply::Applying,
    model::{AlertChange, NewAlert},
    pair::{AlertSignal, DeviceEpisode, pair},
};
use crate::{db::Tx, error::Error, value::Value};

/// An alert that becomes known later than this after it began pages nobody.
const BACKFILLED_AFTER: TimeDelta = TimeDelta::minutes(15);

/// Clears between two others: at most the message itself, for its phase and for all phases.
const MAX_CLEARS: i64 = 8;

/// Larger metadata is dropped, because every event of the alert repeats it. In bytes.
const MAX_METADATA: usize = 4096;

impl Applying {
    /// Applies a raise or clear that a device sent. Idempotent: a repetition changes nothing.
    pub async fn device_alert(
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
            // A clear without a phase ends the alerts of all phases.
            for phase in phases(tx, &key).await? {
                let key = Key { phase: &phase, ..key };
                self.settle(tx, &key, alert.ts.0, at).await?;
            }
        }
        Ok(())
    }

    /// Makes the alerts around a moment equal to the episodes of the stored raises and clears.
    async fn settle(
        &mut self,
        tx: &mut Tx,
        key: &Key<'_>,
        ts: Micros,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        // Episodes end at clears, so nothing changes before the previous clear or after the next one.
        let from = key.last_clear(tx, ts).await?.unwrap_or(i64::MIN);
        let to = key.next_clear(tx, ts).await?.unwrap_or(i64::MAX);
        let stored = key.between(tx, from, to).await?;
        let signals: Vec<AlertSignal> =
            stored.iter().map(|s| AlertSignal { ts: s.ts, cleared: s.cleared }).collect();
        let mut known = key.known(tx, from, to).await?;
        let (mut moved, mut left) = (Vec::new(), Vec::new());
        // An episode keeps the alert with its id. One without such an alert takes one that is left over,
        // because people may have acknowledged that already.
        for episode in pair(&signals) {
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
                    let first = stored.iter().find(|s| s.ts == episode.started && !s.cleared);
                    if let Some(first) = first {
                        self.raise(tx, &key.alert(first, episode, at)).await?;
                    }
                }
            }
        }
        for (alert, episode) in moved {
            self.move_to(tx, &alert, episode).await?;
        }
        // Alerts of raises that turned out to be repetitions.
        for alert in known {
            self.change(tx, &AlertChange::Withdraw { id: alert.id }).await?;
        }
        Ok(())
    }

    /// Moves the beginning and the end of an alert to those of an episode.
    async fn move_to(
        &mut self,
        tx: &mut Tx,
        known: &KnownAlert,
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
            _ => self.emit(tx, known.id, AlertStep::Amended, created).await,
        }
    }
}

/// A type of alert on a device and phase.
#[derive(Clone, Copy)]
struct Key<'a> {
    device_id: &'a str,
    kind: &'a str,
    phase: &'a str,
}

#[derive(sqlx::FromRow)]
struct KnownAlert {
    id: Uuid,
    resolved_at: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
struct StoredSignal {
    ts: i64,
    cleared: bool,
    body: Json,
}

impl Key<'_> {
    fn id(&self, started: Micros) -> Uuid {
        alert_id(self.device_id, &format!("{}/{}", self.kind, self.phase), started)
    }

    fn alert(&self, first: &StoredSignal, episode: DeviceEpisode, at: DateTime<Utc>) -> NewAlert {
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

    /// The signals after one clear, up to and including the next, that decide the episodes: the clears,
    /// and the first raise after each. Repeated raises, however many, are not read.
    async fn between(
        &self,
        tx: &mut Tx,
        from: Micros,
        to: Micros,
    ) -> Result<Vec<StoredSignal>, Error> {
        let mut signals: Vec<StoredSignal> = tx
            .fetch_all(
                "SELECT ts, cleared, body FROM device_said
                 WHERE device_id = $1 AND alert_type = $2 AND ts > $4 AND ts <= $5
                     AND (phase = $3 OR phase = '') AND cleared = $6
                 ORDER BY ts LIMIT $7",
                self.values([from.into(), to.into(), true.into(), MAX_CLEARS.into()]),
            )
            .await?;
        let starts: Vec<Micros> = [from].into_iter().chain(signals.iter().map(|s| s.ts)).collect();
        for after in starts {
            let first: Option<StoredSignal> = tx
                .fetch_optional(
                    "SELECT ts, cleared, body FROM device_said
                     WHERE device_id = $1 AND alert_type = $2 AND ts > $4 AND ts <= $5
                         AND phase = $3 AND cleared = $6
                     ORDER BY ts LIMIT $7",
                    self.values([after.into(), to.into(), false.into(), 1_i64.into()]),
                )
                .await?;
            signals.extend(first);
        }
        Ok(signals)
    }

    fn values(&self, more: [Value; 4]) -> Vec<Value> {
        let key = [self.device_id, self.kind, self.phase];
        key.into_iter().map(Value::from).chain(more).collect()
    }

    /// The alerts that began after one clear, up to the next.
    async fn known(&self, tx: &mut Tx, from: Micros, to: Micros) -> Result<Vec<KnownAlert>, Error> {
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

    /// The newest clear before a moment.
    async fn last_clear(&self, tx: &mut Tx, ts: Micros) -> Result<Option<Micros>, Error> {
        let sql = "SELECT MAX(ts) FROM device_said WHERE device_id = $1 AND alert_type = $2
             AND (phase = $3 OR phase = '') AND cleared = $4 AND ts < $5";
        self.clear(tx, sql, ts).await
    }

    /// The oldest clear after a moment.
    async fn next_clear(&self, tx: &mut Tx, ts: Micros) -> Result<Option<Micros>, Error> {
        let sql = "SELECT MIN(ts) FROM device_said WHERE device_id = $1 AND alert_type = $2
             AND (phase = $3 OR phase = '') AND cleared = $4 AND ts > $5";
        self.clear(tx, sql, ts).await
    }

    async fn clear(
        &self,
        tx: &mut Tx,
        sql: &'static str,
        ts: Micros,
    ) -> Result<Option<Micros>, Error> {
        let values = vec![
            self.device_id.into(),
            self.kind.into(),
            self.phase.into(),
            true.into(),
            ts.into(),
        ];
        let found: Option<(Option<i64>,)> = tx.fetch_optional(sql, values).await?;
        Ok(found.and_then(|(ts,)| ts))
    }
}

/// A time, limited to what both databases can store.
fn moment(ts: Micros) -> DateTime<Utc> {
    const FAR: Micros = 9000 * 365 * time::DAY;
    time::to_datetime(ts.clamp(-FAR / 10, FAR / 2)).unwrap_or_default()
}

async fn phases(tx: &mut Tx, key: &Key<'_>) -> Result<Vec<String>, Error> {
    let rows: Vec<(String,)> = tx
        .fetch_all(
            // There are three phases; the limit is for devices that invent names.
            "SELECT DISTINCT phase FROM device_said
             WHERE device_id = $1 AND alert_type = $2 AND phase <> '' LIMIT 16",
            vec![key.device_id.into(), key.kind.into()],
        )
        .await?;
    Ok(rows.into_iter().map(|(phase,)| phase).collect())
}

fn body(alert: &DeviceAlert) -> Json {
    let metadata = alert.extra.get("metadata");
    let metadata = metadata.filter(|metadata| metadata.to_string().len() <= MAX_METADATA);
    json!({
        "severity": alert.severity,
        "message": alert.message.as_ref().map(|m| m.chars().take(500).collect::<String>()),
        "value": alert.value,
        "threshold": alert.threshold,
        "metadata": metadata,
    })
}
