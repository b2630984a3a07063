//! What the stream changes in control: one transaction together with the offsets it comes from.

use acuvim_schemas::payload::Registration;
use chrono::{DateTime, Utc};

use crate::{Control, Error, db::Tx};

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

/// A device that announced itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// What it said.
    pub registration: Registration,
    /// When it said so.
    pub at: DateTime<Utc>,
}

/// What a run of records changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// How far the partitions have come.
    pub moves: Vec<OffsetMove>,
    /// Devices that were heard of, and when; a known one stays as it is.
    pub seen: Vec<(String, DateTime<Utc>)>,
    /// Devices that announced themselves, in the order in which they did.
    pub registered: Vec<Registered>,
}

impl Changes {
    /// Whether there is nothing but moves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.registered.is_empty()
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
        for (device_id, at) in &changes.seen {
            see(&mut tx, device_id, *at).await?;
        }
        for registered in &changes.registered {
            register(&mut tx, registered).await?;
        }
        tx.commit().await?;
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

async fn see(tx: &mut Tx, device_id: &str, at: DateTime<Utc>) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO devices
             (device_id, capabilities, registered, enabled, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (device_id) DO NOTHING",
        vec![device_id.into(), serde_json::json!([]).into(), false.into(), true.into(), at.into()],
    )
    .await
    .map(|_| ())
}

/// Updates what the device knows of itself, and never what a person set.
async fn register(tx: &mut Tx, registered: &Registered) -> Result<(), Error> {
    let (r, at) = (&registered.registration, registered.at);
    tx.execute(
        "INSERT INTO devices
             (device_id, mac_address, imei, iccid, hardware, firmware_version, capabilities,
              meter_serial, max_packet_bytes, boot_count, registered, enabled, created_at,
              updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $12)
         ON CONFLICT (device_id) DO UPDATE SET
             mac_address = COALESCE(excluded.mac_address, devices.mac_address),
             imei = COALESCE(excluded.imei, devices.imei),
             iccid = COALESCE(excluded.iccid, devices.iccid),
             hardware = COALESCE(excluded.hardware, devices.hardware),
             firmware_version = COALESCE(excluded.firmware_version, devices.firmware_version),
             capabilities = excluded.capabilities,
             meter_serial = COALESCE(excluded.meter_serial, devices.meter_serial),
             max_packet_bytes = COALESCE(excluded.max_packet_bytes, devices.max_packet_bytes),
             boot_count = COALESCE(excluded.boot_count, devices.boot_count),
             registered = excluded.registered,
             updated_at = excluded.updated_at",
        vec![
            r.device_id.as_str().into(),
            r.mac_address.clone().into(),
            r.imei.clone().into(),
            r.iccid.clone().into(),
            r.hardware.clone().into(),
            r.firmware_version.clone().into(),
            serde_json::json!(r.capabilities.clone().unwrap_or_default()).into(),
            r.meter_serial.clone().into(),
            r.max_packet_bytes.map(i64::from).into(),
            r.boot.and_then(|b| i64::try_from(b).ok()).into(),
            true.into(),
            at.into(),
        ],
    )
    .await
    .map(|_| ())
}
