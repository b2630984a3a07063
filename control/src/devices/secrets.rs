//! The MQTT secrets of devices: created, rotated, revoked, and read for the broker.

use std::collections::HashMap;

use serde_json::json;

use crate::{
    audit::By,
    db::{Control, Tx},
    device_events::RegisteredBy,
    error::Error,
    secrets::{hash_secret, new_secret},
};

/// Changes whenever the right of any device to connect does.
const VERSION: &str = "credentials.version";

/// The hashes of all MQTT secrets by device. `None` refuses a device that is disabled.
pub type DeviceSecrets = HashMap<String, Option<String>>;

impl Tx {
    /// Replaces the secret of a device.
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

    /// Makes brokers reload the secrets.
    pub(crate) async fn credentials_changed(&mut self) -> Result<(), Error> {
        // Not a counter: one that goes back with a restored backup could show a broker a value that it
        // has seen, for other secrets.
        self.set_setting(VERSION, &uuid::Uuid::now_v7().to_string()).await
    }
}

impl Control {
    /// Whether a secret belongs to a device, and the device is enabled.
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

    /// Creates or replaces the MQTT secret of a device. An unknown device is created.
    pub async fn rotate_device_secret(&self, device_id: &str, by: &By) -> Result<String, Error> {
        let mut tx = self.begin().await?;
        if tx.add_device(device_id, by.at).await? {
            tx.emit_registered(device_id, RegisteredBy::Person, by.at).await?;
        }
        let secret = tx.new_device_secret(device_id).await?;
        tx.audit(by, "credentials.rotate", device_id, json!({})).await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// Removes the MQTT secret of a device. False if it had none.
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

    /// Changes whenever the right of any device to connect does. `None` before the first secret.
    pub async fn credentials_version(&self) -> Result<Option<String>, Error> {
        self.remembered(VERSION).await
    }

    /// The secrets of all devices.
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

#[cfg(test)]
mod tests;
