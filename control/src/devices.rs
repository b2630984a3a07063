//! Devices: what they say of themselves, and whether they may connect.

use std::collections::HashMap;

use acuvim_schemas::api::Device;
use chrono::{DateTime, Utc};

use crate::{Control, Error, hash_secret, new_secret};

/// The hashes of the MQTT secrets of all devices that have one; a disabled device has none to show.
pub type DeviceSecrets = HashMap<String, Option<String>>;

/// Which devices a list holds.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    /// Part of the id or name, in any case.
    pub q: Option<String>,
    /// Only from behind this id.
    pub after: Option<String>,
    /// At most so many.
    pub limit: i64,
}

#[derive(sqlx::FromRow)]
struct DeviceRow {
    device_id: String,
    name: Option<String>,
    mac_address: Option<String>,
    imei: Option<String>,
    iccid: Option<String>,
    hardware: Option<String>,
    firmware_version: Option<String>,
    capabilities: serde_json::Value,
    registered: bool,
    enabled: bool,
    boot_count: Option<i64>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<DeviceRow> for Device {
    fn from(row: DeviceRow) -> Self {
        Self {
            device_id: row.device_id,
            name: row.name,
            mac_address: row.mac_address,
            imei: row.imei,
            iccid: row.iccid,
            hardware: row.hardware,
            firmware_version: row.firmware_version,
            capabilities: serde_json::from_value(row.capabilities).unwrap_or_default(),
            registered: row.registered,
            enabled: row.enabled,
            boot_count: row.boot_count,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl Control {
    /// A page of devices by id, and how many match on all pages.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn devices(&self, filter: &DeviceFilter) -> Result<(Vec<Device>, i64), Error> {
        let like = filter.q.as_ref().map(|q| format!("%{}%", escape_like(&q.to_lowercase())));
        let like = like.as_deref().unwrap_or("%");
        let rows: Vec<DeviceRow> = self
            .fetch_all(
                "SELECT device_id, name, mac_address, imei, iccid, hardware, firmware_version,
                     capabilities, registered, enabled, boot_count, created_at, updated_at
                 FROM devices
                 WHERE device_id > $1
                   AND (LOWER(device_id) LIKE $2 ESCAPE '!'
                        OR LOWER(COALESCE(name, '')) LIKE $2 ESCAPE '!')
                 ORDER BY device_id LIMIT $3",
                vec![
                    filter.after.as_deref().unwrap_or("").into(),
                    like.into(),
                    filter.limit.into(),
                ],
            )
            .await?;
        let total: Option<(i64,)> = self
            .fetch_optional(
                "SELECT COUNT(*) FROM devices
                 WHERE LOWER(device_id) LIKE $1 ESCAPE '!'
                    OR LOWER(COALESCE(name, '')) LIKE $1 ESCAPE '!'",
                vec![like.into()],
            )
            .await?;
        Ok((rows.into_iter().map(Device::from).collect(), total.map_or(0, |t| t.0)))
    }

    /// One device.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device(&self, device_id: &str) -> Result<Option<Device>, Error> {
        let row: Option<DeviceRow> = self
            .fetch_optional(
                "SELECT device_id, name, mac_address, imei, iccid, hardware, firmware_version,
                     capabilities, registered, enabled, boot_count, created_at, updated_at
                 FROM devices WHERE device_id = $1",
                vec![device_id.into()],
            )
            .await?;
        Ok(row.map(Device::from))
    }

    /// The ids of all devices, so that a stream can tell a new one.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_ids(&self) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self.fetch_all("SELECT device_id FROM devices", vec![]).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Makes a device's MQTT secret, or a new one in place of the old. Makes the device's row if
    /// it is the first that is heard of it.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn rotate_device_secret(
        &self,
        device_id: &str,
        now: DateTime<Utc>,
    ) -> Result<String, Error> {
        let secret = new_secret("");
        let mut tx = self.begin().await?;
        tx.execute(
            "INSERT INTO devices
                 (device_id, capabilities, registered, enabled, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (device_id) DO NOTHING",
            vec![
                device_id.into(),
                serde_json::json!([]).into(),
                false.into(),
                true.into(),
                now.into(),
            ],
        )
        .await?;
        tx.execute(
            "UPDATE devices SET mqtt_secret_hash = $1, updated_at = $2 WHERE device_id = $3",
            vec![hash_secret(&secret).as_str().into(), now.into(), device_id.into()],
        )
        .await?;
        tx.execute(
            "INSERT INTO settings (name, value) VALUES ('credentials.version', $1)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            vec![uuid::Uuid::now_v7().to_string().as_str().into()],
        )
        .await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// Changes whenever a device's right to connect does; none before the first secret.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn credentials_version(&self) -> Result<Option<String>, Error> {
        let row: Option<(String,)> = self
            .fetch_optional("SELECT value FROM settings WHERE name = 'credentials.version'", vec![])
            .await?;
        Ok(row.map(|(version,)| version))
    }

    /// What every device must show to connect.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_secrets(&self) -> Result<DeviceSecrets, Error> {
        let rows: Vec<(String, Option<String>, bool)> = self
            .fetch_all(
                "SELECT device_id, mqtt_secret_hash, enabled FROM devices
                 WHERE mqtt_secret_hash IS NOT NULL OR enabled = $1",
                vec![false.into()],
            )
            .await?;
        Ok(rows.into_iter().map(|(id, hash, enabled)| (id, hash.filter(|_| enabled))).collect())
    }
}

fn escape_like(text: &str) -> String {
    // PostgreSQL takes no NUL, and no text has one.
    text.replace('\0', "").replace('!', "!!").replace('%', "!%").replace('_', "!_")
}
