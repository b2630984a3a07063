//! Changes of devices' status: in their row, as events, and as alerts of those that went.

use acuvim_schemas::{
    api::DeviceStatus,
    event::{DeviceEvent, Event, alert_id},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    Control, DeviceHappening, DeviceNote, Error, StatusStep,
    alerts::{Applying, NewAlert},
    db::Tx,
};

/// The type of the alert on a device that is offline.
const OFFLINE: &str = "offline";

/// What is known of a device's presence and health, for a stream that begins.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct DevicePresence {
    /// Which.
    pub device_id: String,
    /// Its status.
    pub status: String,
    /// Whether its connection is there, if that is known.
    pub connected: Option<bool>,
    /// When it was last heard.
    pub heard_at: Option<DateTime<Utc>>,
    /// Seconds between its heartbeats.
    pub heartbeat_interval_s: Option<i64>,
    /// What is kept of its heartbeats, as JSON.
    pub vitals: Option<String>,
}

impl Control {
    /// What is kept of a device's heartbeats, as JSON; none of a device that sent none.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn vitals(&self, device_id: &str) -> Result<Option<String>, Error> {
        let row: Option<(Option<String>,)> = self
            .fetch_optional(
                "SELECT vitals FROM devices WHERE device_id = $1",
                vec![device_id.into()],
            )
            .await?;
        Ok(row.and_then(|(vitals,)| vitals))
    }

    /// What is known of all devices' presence.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn presences(&self) -> Result<Vec<DevicePresence>, Error> {
        self.fetch_all(
            "SELECT device_id, status, connected, heard_at, heartbeat_interval_s, vitals
             FROM devices",
            vec![],
        )
        .await
    }
}

pub(crate) async fn note_presence(
    tx: &mut Tx,
    note: &DeviceNote,
    applying: &mut Applying,
) -> Result<(), Error> {
    if note.status.is_empty() && note.presence.is_none() && note.vitals.is_none() {
        return Ok(());
    }
    let last = note.status.last();
    let (connected, heard) = note.presence.unwrap_or_default();
    let known = tx
        .execute(
            "UPDATE devices SET status = COALESCE($1, status), status_at = COALESCE($2, status_at),
             connected = COALESCE($3, connected), heard_at = COALESCE($4, heard_at),
             vitals = COALESCE($5, vitals)
         WHERE device_id = $6",
            vec![
                last.map(|step| step.to.as_str()).into(),
                last.map(|step| step.at).into(),
                connected.into(),
                heard.into(),
                note.vitals.clone().into(),
                note.device_id.as_str().into(),
            ],
        )
        .await?;
    if known == 0 {
        return Ok(());
    }
    for step in &note.status {
        tell(tx, &note.device_id, step, applying).await?;
    }
    for happening in &note.happened {
        tx.tell_happened(&note.device_id, happening, applying.now).await?;
    }
    Ok(())
}

impl Tx {
    /// Puts into the outbox that something happened to a device.
    pub(crate) async fn tell_happened(
        &mut self,
        device_id: &str,
        happening: &DeviceHappening,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let event = DeviceEvent {
            event_id: Uuid::now_v7(),
            device_id: device_id.to_owned(),
            event: happening.event.to_owned(),
            ts: happening.at,
            recorded_at: now,
            status: None,
            previous: None,
            reason: Some(happening.reason.to_owned()),
            detail: Some(happening.detail.clone()),
        };
        self.emit(&Event::Device(Box::new(event)), now).await
    }

    /// Puts into the outbox that a device is there that was not: because it was heard, because it
    /// announced itself, or because a person entered it.
    pub(crate) async fn tell_registered(
        &mut self,
        device_id: &str,
        reason: &str,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let event = DeviceEvent {
            event_id: Uuid::now_v7(),
            device_id: device_id.to_owned(),
            event: "registered".to_owned(),
            ts: at,
            recorded_at: at,
            status: None,
            previous: None,
            reason: Some(reason.to_owned()),
            detail: None,
        };
        self.emit(&Event::Device(Box::new(event)), at).await
    }
}

/// One row of the outbox for the change, and the alert that it begins or ends.
async fn tell(
    tx: &mut Tx,
    device_id: &str,
    step: &StatusStep,
    applying: &mut Applying,
) -> Result<(), Error> {
    let event = DeviceEvent {
        event_id: Uuid::now_v7(),
        device_id: device_id.to_owned(),
        event: "status".to_owned(),
        ts: step.at,
        recorded_at: applying.now,
        status: Some(step.to),
        previous: Some(step.from),
        reason: Some(step.reason.to_owned()),
        detail: None,
    };
    tx.emit(&Event::Device(Box::new(event)), applying.now).await?;
    if step.to == DeviceStatus::Offline {
        let alert = NewAlert {
            message: format!("{device_id} is offline ({})", step.reason),
            ..NewAlert::of_health(
                alert_id(device_id, OFFLINE, step.at.timestamp_micros()),
                device_id,
                OFFLINE,
                step.at,
            )
        };
        return applying.raise(tx, &alert).await;
    }
    if step.from == DeviceStatus::Offline {
        let open: Vec<(Uuid,)> = tx
            .fetch_all(
                "SELECT id FROM alerts WHERE device_id = $1 AND alert_type = $2
                     AND origin = 'health' AND resolved_at IS NULL",
                vec![device_id.into(), OFFLINE.into()],
            )
            .await?;
        for (id,) in open {
            applying.clear(tx, id, step.at, None).await?;
        }
    }
    Ok(())
}
