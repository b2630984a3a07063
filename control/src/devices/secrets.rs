//! Devices' MQTT secrets: made, rotated, revoked; and what every device must show.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{By, Control, Error, db::Tx, hash_secret, new_secret};

/// The hashes of the MQTT secrets of all devices that have one; a disabled device has none to show.
pub type DeviceSecrets = HashMap<String, Option<String>>;

impl Tx {
    /// Makes a new secret for a device that is there.
    pub(crate) async fn new_device_secret(&mut self, device_id: &str) -> Result<String, Error> {
        let secret = new_secret("");
        self.execute(
            "UPDATE devices SET mqtt_secret_hash = $1 WHERE device_id = $2",
            vec![hash_secret(&secret).into(), device_id.into()],
        )
        .await?;
        self.credentials_changed().await?;
        Ok(secret)
    }

    /// Says that some device's right to connect is another now.
    pub(crate) async fn credentials_changed(&mut self) -> Result<(), Error> {
        self.execute(
            "INSERT INTO settings (name, value) VALUES ('credentials.version', $1)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            vec![uuid::Uuid::now_v7().to_string().into()],
        )
        .await
        .map(|_| ())
    }

    /// Makes a device's row if it is the first that is heard of it.
    pub(crate) async fn see_device(
        &mut self,
        device_id: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let made = self
            .execute(
                "INSERT INTO devices (device_id, site, search, capabilities, registered, enabled,
                     created_at, updated_at)
                 VALUES ($1, $1, LOWER($1), $2, $3, $4, $5, $5) ON CONFLICT (device_id) DO NOTHING",
                vec![device_id.into(), json!([]).into(), false.into(), true.into(), at.into()],
            )
            .await?;
        if made == 1 {
            self.leave_site(device_id).await?;
        }
        Ok(made == 1)
    }

    /// Gives a site that is named after a device the name of another one that stood there. A site is
    /// named after its first logger: once that is deleted, another device of the same id must not
    /// belong to it.
    pub(crate) async fn leave_site(&mut self, device_id: &str) -> Result<(), Error> {
        self.execute(
            "UPDATE devices SET site = (SELECT MIN(o.device_id) FROM devices o
                 WHERE o.site = $1 AND o.device_id <> $1)
             WHERE site = $1 AND device_id <> $1",
            vec![device_id.into()],
        )
        .await
        .map(|_| ())
    }
}

impl Control {
    /// Whether a secret is a device's own, and the device may use it.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn is_device_secret(&self, device_id: &str, secret: &str) -> Result<bool, Error> {
        let found: Option<(String,)> = self
            .fetch_optional(
                "SELECT device_id FROM devices WHERE device_id = $1 AND mqtt_secret_hash = $2
                     AND enabled = $3",
                vec![device_id.into(), hash_secret(secret).into(), true.into()],
            )
            .await?;
        Ok(found.is_some())
    }

    /// Makes a device's MQTT secret, or a new one in place of the old. Makes the device's row if
    /// it is the first that is heard of it.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn rotate_device_secret(&self, device_id: &str, by: &By) -> Result<String, Error> {
        let mut tx = self.begin().await?;
        if tx.see_device(device_id, by.at).await? {
            tx.tell_registered(device_id, "entered", by.at).await?;
        }
        let secret = tx.new_device_secret(device_id).await?;
        tx.audit(by, "credentials.rotate", device_id, json!({})).await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// Takes a device's MQTT secret away; false if it had none.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn revoke_device_secret(&self, device_id: &str, by: &By) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let revoked = tx
            .execute(
                "UPDATE devices SET mqtt_secret_hash = NULL
                 WHERE device_id = $1 AND mqtt_secret_hash IS NOT NULL",
                vec![device_id.into()],
            )
            .await?;
        if revoked == 0 {
            return Ok(false);
        }
        tx.credentials_changed().await?;
        tx.audit(by, "credentials.revoke", device_id, json!({})).await?;
        tx.commit().await?;
        Ok(true)
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
