//! Deleting devices.

use acuvim_model::Scope;
use serde_json::json;

use crate::{audit::By, db::Control, error::Error};

impl Control {
    /// Deletes a device with its secret, configuration and open commands, and resolves its open alerts.
    /// False if there is none in the scope.
    ///
    /// Its history in the lake, its finished commands and its alerts stay. If the device sends anything again, it
    /// becomes known as a new one.
    pub async fn delete_device(
        &self,
        device_id: &str,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        if tx.device(device_id, scope).await?.is_none() {
            return Ok(false);
        }
        tx.end_commands(device_id, "the device was deleted", by.at).await?;
        tx.resolve_alerts_of(device_id, "the device was deleted", by).await?;
        tx.leave_site(device_id).await?;
        for statement in [
            "DELETE FROM rollout_devices WHERE device_id = $1",
            "DELETE FROM configs WHERE device_id = $1",
            "DELETE FROM config_changes WHERE device_id = $1",
            "DELETE FROM devices WHERE device_id = $1",
            "UPDATE devices SET replaces = NULL WHERE replaces = $1",
            "UPDATE devices SET replaced_by = NULL WHERE replaced_by = $1",
        ] {
            tx.execute(statement, vec![device_id.into()]).await?;
        }
        tx.credentials_changed().await?;
        tx.audit(by, "device.delete", device_id, json!({})).await?;
        tx.commit().await?;
        self.outbox.notify_one();
        Ok(true)
    }
}
