//! What the stream changes in control, in one transaction with the offsets that it comes from.

use acuvim_wire::{
    command::Delivery,
    payload::{self, DeviceAlert, Heartbeat, Registration},
    text::plain,
};
use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{
    alerts::{AlertChange, Applying},
    commands::{
        Answer, ReadUntil, Resend, apply_answer, apply_delivery, expire, release_waiting,
        resend_config,
    },
    db::{Control, Tx},
    dead_letters::{DeadLetterUpdates, apply_dead_letters},
    device_events::{DeviceEventKind, NewDeviceEvent, RegisteredBy},
    device_updates::DeviceUpdate,
    error::Error,
    presence::apply_presence,
    rule_states::{RepairChange, store_repairs, store_rule_states},
};

/// A move of a partition's offset. Compare and set, so that a processor which lost the partition changes
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetMove {
    /// The number of the partition.
    pub partition: u32,
    /// The next offset that this processor stored last, or `None` if none is stored.
    pub expected: Option<i64>,
    /// The next offset to store.
    pub next: i64,
}

/// The changes of a run of log records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// The moves of offsets.
    pub moves: Vec<OffsetMove>,
    /// Updates of devices, one for each device.
    pub devices: Vec<DeviceUpdate>,
    /// Reports of `ingest` on the delivery of commands: the device, the report, and its time.
    pub deliveries: Vec<(String, Delivery, DateTime<Utc>)>,
    /// Answers of devices, in the order of their arrival.
    pub answers: Vec<Answer>,
    /// Changes of alerts, in order.
    pub alerts: Vec<AlertChange>,
    /// Alerts that devices raised or cleared themselves: the device, the message, and when it arrived.
    pub device_alerts: Vec<(String, DeviceAlert, DateTime<Utc>)>,
    /// The states of the rules on devices, as JSON. `None` if all are quiet.
    pub judgements: Vec<(String, Option<String>)>,
    /// Changes of what is to be repaired, in order.
    pub repairs: Vec<RepairChange>,
    /// What became known about dead letters.
    pub dead_letters: DeadLetterUpdates,
    /// If set, commands that were due by then time out.
    pub read_until: Option<ReadUntil>,
    /// How unconfirmed configuration is sent again.
    pub resend: Resend,
    /// The current time. Commands that are sent now get their full time from now on, however late the
    /// record that releases them was read.
    pub now: DateTime<Utc>,
}

impl Changes {
    /// Whether there is nothing but moves of offsets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
            && self.deliveries.is_empty()
            && self.answers.is_empty()
            && self.alerts.is_empty()
            && self.device_alerts.is_empty()
            && self.judgements.is_empty()
            && self.repairs.is_empty()
            && self.dead_letters.is_empty()
    }

    /// Roughly the number of statements that it takes to store them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
            + self.deliveries.len()
            + self.answers.len()
            + self.alerts.len()
            + self.device_alerts.len()
            + self.judgements.len()
            + self.repairs.len()
            + self.dead_letters.clockless.len()
            + self.dead_letters.anchors.len()
    }
}

/// The outcome of storing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// All are stored.
    Done,
    /// None is stored: the offset of a partition is not the expected one, so it has a newer owner.
    Overtaken {
        /// The number of the partition.
        partition: u32,
    },
}

impl Control {
    /// The next offset that control has not seen yet. `None` before the first move.
    pub async fn offset(&self, epoch: i32, partition: u32) -> Result<Option<i64>, Error> {
        let row: Option<(i64,)> = self
            .fetch_optional(
                "SELECT next_offset FROM offsets WHERE epoch = $1 AND partition_number = $2",
                vec![i64::from(epoch).into(), i64::from(partition).into()],
            )
            .await?;
        Ok(row.map(|(next,)| next))
    }

    /// Stores changes together with their offsets, or nothing.
    ///
    /// # Errors
    /// After an error the transaction may still have been committed; [`Control::offset`] tells.
    pub async fn apply(&self, epoch: i32, changes: &Changes) -> Result<Applied, Error> {
        let mut tx = self.begin().await?;
        // The offsets first: a processor that has lost a partition waits here for its successor's
        // transaction, and then finds the offset moved and writes nothing.
        for step in &changes.moves {
            if !advance(&mut tx, epoch, step).await? {
                return Ok(Applied::Overtaken { partition: step.partition });
            }
        }
        let mut applying = Applying::new(changes.now);
        for update in &changes.devices {
            apply_update(&mut tx, update, &mut applying).await?;
        }
        for change in &changes.alerts {
            applying.change(&mut tx, change).await?;
        }
        for (device_id, alert, at) in &changes.device_alerts {
            applying.device_alert(&mut tx, device_id, alert, *at).await?;
        }
        store_rule_states(&mut tx, &changes.judgements).await?;
        store_repairs(&mut tx, &changes.repairs, changes.now).await?;
        apply_dead_letters(&mut tx, &changes.dead_letters).await?;
        for (device_id, delivery, at) in &changes.deliveries {
            apply_delivery(&mut tx, device_id, *delivery, *at).await?;
        }
        // Answers before timeouts: an answer that arrived by its deadline counts although one batch has
        // both.
        for answer in &changes.answers {
            apply_answer(&mut tx, answer).await?;
        }
        // After the answers, so that configuration which a device has just confirmed is not sent again.
        let released = release_commands(&mut tx, changes).await?;
        if let Some(read) = changes.read_until {
            expire(&mut tx, read).await?;
        }
        let emits = tx.emits();
        tx.commit().await?;
        if released || emits {
            self.outbox.notify_one();
        }
        Ok(Applied::Done)
    }
}

/// Sends the commands and configuration that wait for devices with live messages. Returns whether there
/// were any.
async fn release_commands(tx: &mut Tx, changes: &Changes) -> Result<bool, Error> {
    let heard: Vec<&DeviceUpdate> = changes.devices.iter().filter(|n| n.heard).collect();
    let Some(at) = heard.iter().map(|update| update.at).max() else { return Ok(false) };
    let at = at.max(changes.now);
    let released = release_waiting(tx, &heard, at).await?;
    Ok(resend_config(tx, &heard, &changes.resend, at).await? || released)
}

/// Moves an offset. False if the stored one is not the expected one.
async fn advance(tx: &mut Tx, epoch: i32, step: &OffsetMove) -> Result<bool, Error> {
    let partition = i64::from(step.partition);
    let epoch = i64::from(epoch);
    // Of two processors that both found no offset, one inserts it; the other touches no row.
    let touched = match step.expected {
        Some(expected) => {
            tx.execute(
                "UPDATE offsets SET next_offset = $1
                 WHERE epoch = $2 AND partition_number = $3 AND next_offset = $4",
                vec![step.next.into(), epoch.into(), partition.into(), expected.into()],
            )
            .await?
        }
        None => {
            tx.execute(
                "INSERT INTO offsets (epoch, partition_number, next_offset) VALUES ($1, $2, $3)
                 ON CONFLICT (epoch, partition_number) DO NOTHING",
                vec![epoch.into(), partition.into(), step.next.into()],
            )
            .await?
        }
    };
    Ok(touched == 1)
}

/// Stores an update of a device. What is older than what is stored changes nothing.
async fn apply_update(
    tx: &mut Tx,
    update: &DeviceUpdate,
    applying: &mut Applying,
) -> Result<(), Error> {
    for registration in &update.registrations {
        register(tx, &update.device_id, registration, update.at).await?;
    }
    // Nearly all devices are known. So the update is tried first, and the row is only created if the
    // update touched none: one statement instead of two for each device of a batch.
    let mut known = !update.registrations.is_empty();
    if let Some((ts, heartbeat)) = &update.heartbeat {
        if !known && !store_heartbeat(tx, update, *ts, heartbeat).await? {
            ensure_known(tx, update).await?;
            store_heartbeat(tx, update, *ts, heartbeat).await?;
        } else if known {
            store_heartbeat(tx, update, *ts, heartbeat).await?;
        }
        known = true;
    }
    if let Some(ts) = update.telemetry {
        if !known && !store_reading_time(tx, &update.device_id, ts).await? {
            ensure_known(tx, update).await?;
            store_reading_time(tx, &update.device_id, ts).await?;
        } else if known {
            store_reading_time(tx, &update.device_id, ts).await?;
        }
        known = true;
    }
    if !known && !update.of_known {
        ensure_known(tx, update).await?;
    }
    apply_presence(tx, update, applying).await
}

/// Creates the row of a device unless there is one.
async fn ensure_known(tx: &mut Tx, update: &DeviceUpdate) -> Result<(), Error> {
    if tx.add_device(&update.device_id, update.at).await? {
        tx.emit_registered(&update.device_id, RegisteredBy::Message, update.at).await?;
    }
    Ok(())
}

/// Stores a heartbeat. False if the device is unknown, or a newer heartbeat is stored.
async fn store_heartbeat(
    tx: &mut Tx,
    update: &DeviceUpdate,
    ts: DateTime<Utc>,
    heartbeat: &Heartbeat,
) -> Result<bool, Error> {
    // A device may send texts of any length; no address or type of connection is longer than 64.
    let text = |key: &str| {
        let text = heartbeat.extra.get(key).and_then(serde_json::Value::as_str);
        text.and_then(plain).map(|text| text.chars().take(64).collect::<String>())
    };
    let whole = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
    // `beat_version` takes no earlier value: a heartbeat without a version is no proof that the version
    // of the one before still runs.
    let touched = tx
        .execute(
            "UPDATE devices SET last_heartbeat = $1,
                 heartbeat_interval_s = COALESCE($2, heartbeat_interval_s),
                 firmware_version = COALESCE($3, firmware_version),
                 hardware = COALESCE($4, hardware), uptime_ms = COALESCE($5, uptime_ms),
                 boot_count = COALESCE($6, boot_count),
                 meter_serial = COALESCE($7, meter_serial),
                 connection_type = COALESCE($8, connection_type),
                 signal_strength = COALESCE($9, signal_strength),
                 ip_address = COALESCE($10, ip_address), beat_version = $3, beat_at = $12
             WHERE device_id = $11 AND (last_heartbeat IS NULL OR last_heartbeat < $1)",
            vec![
                ts.into(),
                heartbeat.heartbeat_interval_s.map(i64::from).into(),
                heartbeat.firmware_version.clone().into(),
                heartbeat.hardware.clone().into(),
                whole(heartbeat.uptime_ms).into(),
                whole(heartbeat.boot).into(),
                heartbeat.meter_serial.clone().into(),
                text("connection_type").into(),
                heartbeat.signal_dbm().into(),
                text("ip_address").into(),
                update.device_id.as_str().into(),
                update.at.into(),
            ],
        )
        .await?;
    Ok(touched == 1)
}

/// Stores the time of the newest reading. False if the device is unknown, or a newer one is stored.
async fn store_reading_time(
    tx: &mut Tx,
    device_id: &str,
    ts: DateTime<Utc>,
) -> Result<bool, Error> {
    let touched = tx
        .execute(
            "UPDATE devices SET last_telemetry = $1
             WHERE device_id = $2 AND (last_telemetry IS NULL OR last_telemetry < $1)",
            vec![ts.into(), device_id.into()],
        )
        .await?;
    Ok(touched == 1)
}

/// Stores a registration: what the device knows about itself, and never what people enter.
async fn register(
    tx: &mut Tx,
    device_id: &str,
    r: &Registration,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    tx.add_device(device_id, at).await?;
    // A statement of its own: its count of rows tells whether this is the first registration.
    let first = tx
        .execute(
            "UPDATE devices SET registered = $1 WHERE device_id = $2 AND registered = $3",
            vec![true.into(), device_id.into(), false.into()],
        )
        .await?;
    tx.execute(
        "UPDATE devices SET
             mac_address = COALESCE($1, mac_address), imei = COALESCE($2, imei),
             iccid = COALESCE($3, iccid), hardware = COALESCE($4, hardware),
             firmware_version = COALESCE($5, firmware_version),
             capabilities = COALESCE($6, capabilities),
             meter_serial = COALESCE($7, meter_serial),
             max_packet_bytes = COALESCE($8, max_packet_bytes),
             boot_count = COALESCE($9, boot_count), registered = $10, updated_at = $11
         WHERE device_id = $12",
        vec![
            r.mac_address.clone().into(),
            r.imei.clone().into(),
            r.iccid.clone().into(),
            r.hardware.clone().into(),
            r.firmware_version.clone().into(),
            r.capabilities.as_ref().map(|c| json!(c)).into(),
            r.meter_serial.clone().into(),
            r.max_packet_bytes.map(i64::from).into(),
            r.boot.and_then(|b| i64::try_from(b).ok()).into(),
            true.into(),
            at.into(),
            device_id.into(),
        ],
    )
    .await?;
    if first > 0 {
        tx.emit_registered(device_id, RegisteredBy::Registration, at).await?;
    }
    if let Some(odd) = r.extra.get(payload::ODD) {
        let (kind, detail) = (DeviceEventKind::OddFields, odd.clone());
        let event = NewDeviceEvent { kind, reason: "registration", at, detail };
        tx.emit_device_event(device_id, &event, at).await?;
    }
    tx.update_search(device_id).await
}

#[cfg(test)]
mod tests;
