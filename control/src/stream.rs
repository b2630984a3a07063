//! What the stream changes in control: one transaction together with the offsets it comes from.

mod note;

use acuvim_schemas::{
    Micros,
    command::Delivery,
    device::partition_of,
    payload::{self, DeviceAlert, Heartbeat, Registration},
    text::plain,
};
use chrono::{DateTime, Utc};
use serde_json::json;

pub use note::{DeviceHappening, DeviceNote, StatusStep};

use crate::{
    AlertChange, Answer, Control, Error, LetterNotes,
    alerts::Applying,
    commands::{answer, awake, delivered, expire, resend_config},
    db::Tx,
    judgements::{store_judgements, store_repairs},
    letters::note_letters,
    presence::note_presence,
};

/// A partition's move: compare and set, so that a processor that was overtaken changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetMove {
    /// Which partition.
    pub partition: u32,
    /// The next offset as this processor believes it is stored; none if it has stored none.
    pub expected: Option<i64>,
    /// The next offset from now on.
    pub next: i64,
}

/// A change of what is to be repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairChange {
    /// A device's episodes are to be found anew from a moment on, in microseconds.
    Schedule(String, Micros),
    /// They were.
    Done(String),
}

/// How configuration is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resend {
    /// What the topics begin with.
    pub topic_prefix: String,
    /// Seconds to the first answer.
    pub first_timeout_s: i64,
    /// Seconds from an `ack` to the last answer.
    pub ack_timeout_s: i64,
}

impl Default for Resend {
    fn default() -> Self {
        Self { topic_prefix: "acuvim".into(), first_timeout_s: 60, ack_timeout_s: 120 }
    }
}

/// How far a partition has been read, in time: what was due by then, and has not come, does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadUntil {
    /// The time.
    pub at: DateTime<Utc>,
    /// Which partition.
    pub partition: u32,
    /// Of how many.
    pub partitions: u32,
}

/// What a run of records changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// How far the partitions have come.
    pub moves: Vec<OffsetMove>,
    /// What was said of devices, one note each.
    pub devices: Vec<DeviceNote>,
    /// What `ingest` says of commands: the device, what, and when.
    pub deliveries: Vec<(String, Delivery, DateTime<Utc>)>,
    /// What devices answered, in the order in which they did.
    pub answers: Vec<Answer>,
    /// What changes about alerts, in order.
    pub alerts: Vec<AlertChange>,
    /// What devices said of alerts of their own: whose, what, and when it came.
    pub said: Vec<(String, DeviceAlert, DateTime<Utc>)>,
    /// The states of rules on devices, as JSON; none: all are quiet.
    pub judgements: Vec<(String, Option<String>)>,
    /// What is to be repaired, or was, in order.
    pub repairs: Vec<RepairChange>,
    /// What was learnt of dead letters.
    pub letters: LetterNotes,
    /// Set: commands that were due by then time out.
    pub read_until: Option<ReadUntil>,
    /// How configuration is sent again to devices that come back.
    pub resend: Resend,
    /// The time at which all this is applied: what goes out now has its time from now on, however
    /// late its occasion was read.
    pub now: DateTime<Utc>,
}

impl Changes {
    /// Whether there is nothing but moves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
            && self.deliveries.is_empty()
            && self.answers.is_empty()
            && self.alerts.is_empty()
            && self.said.is_empty()
            && self.judgements.is_empty()
            && self.repairs.is_empty()
            && self.letters.is_empty()
    }

    /// About how many statements it takes to store them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
            + self.deliveries.len()
            + self.answers.len()
            + self.alerts.len()
            + self.said.len()
            + self.judgements.len()
            + self.repairs.len()
            + self.letters.clockless.len()
            + self.letters.anchors.len()
    }
}

/// What became of the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// All of them are stored.
    Done,
    /// None is: this partition's stored offset is not the expected one, so it has a newer owner.
    Overtaken {
        /// Which partition.
        partition: u32,
    },
}

impl Control {
    /// The next offset that control has yet to see, per partition; none before the first move.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn offset(&self, epoch: i32, partition: u32) -> Result<Option<i64>, Error> {
        let row: Option<(i64,)> = self
            .fetch_optional(
                "SELECT next_offset FROM offsets WHERE epoch = $1 AND partition_number = $2",
                vec![i64::from(epoch).into(), i64::from(partition).into()],
            )
            .await?;
        Ok(row.map(|(next,)| next))
    }

    /// Stores changes and offsets together, or nothing.
    ///
    /// # Errors
    /// When the database can't be asked. The transaction may have been committed all the same:
    /// [`Control::offset`] tells.
    pub async fn apply(&self, epoch: i32, changes: &Changes) -> Result<Applied, Error> {
        let mut tx = self.begin().await?;
        for step in &changes.moves {
            if !advance(&mut tx, epoch, step).await? {
                return Ok(Applied::Overtaken { partition: step.partition });
            }
        }
        let mut released = false;
        let mut applying = Applying::new(changes.now);
        for note in &changes.devices {
            note_device(&mut tx, note, &mut applying).await?;
        }
        for change in &changes.alerts {
            applying.change(&mut tx, change).await?;
        }
        for (device_id, alert, at) in &changes.said {
            applying.said(&mut tx, device_id, alert, *at).await?;
        }
        store_judgements(&mut tx, &changes.judgements).await?;
        store_repairs(&mut tx, &changes.repairs, changes.now).await?;
        note_letters(&mut tx, &changes.letters).await?;
        for (device_id, delivery, at) in &changes.deliveries {
            delivered(&mut tx, device_id, *delivery, *at).await?;
        }
        for given in &changes.answers {
            answer(&mut tx, given).await?;
        }
        let heard: Vec<&DeviceNote> = changes.devices.iter().filter(|n| n.heard).collect();
        if let Some(at) = heard.iter().map(|note| note.at).max() {
            released |= awake(&mut tx, &heard, at.max(changes.now)).await?;
            let at = at.max(changes.now);
            released |= resend_config(&mut tx, &heard, &changes.resend, at).await?;
        }
        if let Some(read) = changes.read_until {
            let ours =
                |device: &str| partition_of(device.as_bytes(), read.partitions) == read.partition;
            expire(&mut tx, read.at, &ours).await?;
        }
        let told = tx.told();
        tx.commit().await?;
        if released || told {
            self.outbox.notify_one();
        }
        Ok(Applied::Done)
    }
}

async fn advance(tx: &mut Tx, epoch: i32, step: &OffsetMove) -> Result<bool, Error> {
    let partition = i64::from(step.partition);
    let epoch = i64::from(epoch);
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

/// Notes what a device said. What is older than what is known changes nothing.
async fn note_device(tx: &mut Tx, note: &DeviceNote, applying: &mut Applying) -> Result<(), Error> {
    for registration in &note.registrations {
        register(tx, &note.device_id, registration, note.at).await?;
    }
    let mut known = !note.registrations.is_empty();
    if let Some((ts, heartbeat)) = &note.heartbeat {
        if !known && !beat(tx, note, *ts, heartbeat).await? {
            first_heard(tx, note).await?;
            beat(tx, note, *ts, heartbeat).await?;
        } else if known {
            beat(tx, note, *ts, heartbeat).await?;
        }
        known = true;
    }
    if let Some(ts) = note.telemetry {
        if !known && !measured(tx, &note.device_id, ts).await? {
            first_heard(tx, note).await?;
            measured(tx, &note.device_id, ts).await?;
        } else if known {
            measured(tx, &note.device_id, ts).await?;
        }
        known = true;
    }
    if !known && !note.of_known {
        first_heard(tx, note).await?;
    }
    note_presence(tx, note, applying).await
}

/// Makes the row of a device that was never heard before.
async fn first_heard(tx: &mut Tx, note: &DeviceNote) -> Result<(), Error> {
    if tx.see_device(&note.device_id, note.at).await? {
        tx.tell_registered(&note.device_id, "heard", note.at).await?;
    }
    Ok(())
}

/// False if the device is unknown, or if a newer heartbeat is there.
async fn beat(
    tx: &mut Tx,
    note: &DeviceNote,
    ts: DateTime<Utc>,
    heartbeat: &Heartbeat,
) -> Result<bool, Error> {
    let text = |key: &str| {
        let text = heartbeat.extra.get(key).and_then(serde_json::Value::as_str);
        text.and_then(plain).map(|text| text.chars().take(64).collect::<String>())
    };
    let whole = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
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
                note.device_id.as_str().into(),
                note.at.into(),
            ],
        )
        .await?;
    Ok(touched == 1)
}

/// False if the device is unknown, or if a newer reading is.
async fn measured(tx: &mut Tx, device_id: &str, ts: DateTime<Utc>) -> Result<bool, Error> {
    let touched = tx
        .execute(
            "UPDATE devices SET last_telemetry = $1
             WHERE device_id = $2 AND (last_telemetry IS NULL OR last_telemetry < $1)",
            vec![ts.into(), device_id.into()],
        )
        .await?;
    Ok(touched == 1)
}

/// Updates what the device knows of itself, and never what a person set.
async fn register(
    tx: &mut Tx,
    device_id: &str,
    r: &Registration,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    tx.see_device(device_id, at).await?;
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
        tx.tell_registered(device_id, "announced", at).await?;
    }
    if let Some(odd) = r.extra.get(payload::ODD) {
        let detail = odd.clone();
        let odd = DeviceHappening { event: "odd_fields", reason: "registration", at, detail };
        tx.tell_happened(device_id, &odd, at).await?;
    }
    tx.note_search(device_id).await
}
