//! The presence of devices: their status, the events about its changes, and the alert on a device that is
//! offline.

use acuvim_model::{DeviceStatus, event::alert_id};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    alerts::{Applying, NewAlert},
    db::{Control, Tx},
    device_events::StatusStep,
    device_updates::DeviceUpdate,
    error::Error,
};

/// The type of the alert on a device that is offline.
const OFFLINE: &str = "offline";

/// The stored presence and health of a device, from which a stream goes on.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct DevicePresence {
    /// The id of the device.
    pub device_id: String,
    /// The name of its status.
    pub status: String,
    /// Whether it is connected, if that is known.
    pub connected: Option<bool>,
    /// When its last message arrived.
    pub heard_at: Option<DateTime<Utc>>,
    /// Seconds between its heartbeats, if it reports that.
    pub heartbeat_interval_s: Option<i64>,
    /// The state that is kept between its heartbeats, as JSON.
    pub vitals: Option<String>,
}

impl Control {
    /// The state that is kept between the heartbeats of a device, as JSON. `None` if it sent none.
    pub async fn vitals(&self, device_id: &str) -> Result<Option<String>, Error> {
        let row: Option<(Option<String>,)> = self
            .fetch_optional(
                "SELECT vitals FROM devices WHERE device_id = $1",
                vec![device_id.into()],
            )
            .await?;
        Ok(row.and_then(|(vitals,)| vitals))
    }

    /// The presence of all devices.
    pub async fn presences(&self) -> Result<Vec<DevicePresence>, Error> {
        self.fetch_all(
            "SELECT device_id, status, connected, heard_at, heartbeat_interval_s, vitals
             FROM devices",
            vec![],
        )
        .await
    }
}

/// Stores the presence in an update of a known device, with what follows from its changes.
pub(crate) async fn apply_presence(
    tx: &mut Tx,
    update: &DeviceUpdate,
    applying: &mut Applying,
) -> Result<(), Error> {
    let is_still = update.status.is_empty() && update.happened.is_empty();
    if is_still && update.presence.is_none() && update.vitals.is_none() {
        return Ok(());
    }
    let last = update.status.last();
    let (connected, heard) = update.presence.unwrap_or_default();
    // Executed even if no column changes: the count of rows tells whether the device exists. Events
    // about a deleted one would bring it back in the lake.
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
                update.vitals.clone().into(),
                update.device_id.as_str().into(),
            ],
        )
        .await?;
    if known == 0 {
        return Ok(());
    }
    for step in &update.status {
        apply_status(tx, &update.device_id, step, applying).await?;
    }
    for event in &update.happened {
        tx.emit_device_event(&update.device_id, event, applying.now).await?;
    }
    Ok(())
}

/// Emits a change of status, and raises or clears the alert that belongs to it.
async fn apply_status(
    tx: &mut Tx,
    device_id: &str,
    step: &StatusStep,
    applying: &mut Applying,
) -> Result<(), Error> {
    tx.emit_status(device_id, step, applying.now).await?;
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
