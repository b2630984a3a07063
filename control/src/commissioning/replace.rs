//! Putting a new device in the place of an old one.

use acuvim_model::{CreatedDevice, Device, DeviceCredentials, DeviceEdit, Scope};
use serde_json::json;

use super::edit::apply_edit;
use crate::{
    audit::By,
    db::{Control, Tx},
    device_events::RegisteredBy,
    error::Error,
};

/// The outcome of replacing a device.
#[derive(Debug, Clone)]
pub enum Replaced {
    /// The new device has taken over; with its secret.
    Done(Box<CreatedDevice>),
    /// There is no such device in the scope.
    NotFound,
    /// The devices can't be swapped; with the reason.
    Conflict(&'static str),
}

impl Control {
    /// Why the id of a deleted device is refused for a new one: whoever may see the new device would see
    /// the readings of the old one too.
    pub const KNOWN_ID: &str = "readings of an earlier device are stored under that id; \
        if it is the same logger, make it a device first";

    /// Replaces a broken or lost device by a new one. What people entered about the old device, and its
    /// desired configuration, go over to the new one, and the old one can't connect any more.
    pub async fn replace_device(
        &self,
        old: &str,
        new: &str,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<Replaced, Error> {
        let mut tx = self.begin().await?;
        let Some(before) = tx.device(old, scope).await? else { return Ok(Replaced::NotFound) };
        if before.replaced_by.is_some() {
            return Ok(Replaced::Conflict("it was replaced before: replace its successor"));
        }
        let is_new = tx.add_device(new, by.at).await?;
        if is_new && was_deleted(&mut tx, new).await? {
            // To a caller with a scope it must look like any device outside the scope.
            return Ok(match scope {
                Some(_) => Replaced::NotFound,
                None => Replaced::Conflict(Self::KNOWN_ID),
            });
        }
        // A device that was known already must be in the caller's scope.
        let scope = if is_new { None } else { scope };
        let Some(there) = tx.device(new, scope).await? else { return Ok(Replaced::NotFound) };
        if let Some(reason) = why_in_use(&there, old) {
            return Ok(Replaced::Conflict(reason));
        }
        if is_new {
            tx.emit_registered(new, RegisteredBy::Person, by.at).await?;
        }
        let password = swap(&mut tx, before, new, by).await?;
        tx.audit(by, "device.replace", old, json!({"new_device_id": new})).await?;
        let device = tx.device(new, None).await?;
        tx.commit().await?;
        let credentials = DeviceCredentials { username: new.to_owned(), password };
        Ok(device.map_or(Replaced::NotFound, |device| {
            Replaced::Done(Box::new(CreatedDevice { device, credentials }))
        }))
    }
}

/// Why a device can't take the place of another, if it can't.
fn why_in_use(new: &Device, old: &str) -> Option<&'static str> {
    if new.device_id == old || new.replaces.is_some() || new.replaced_by.is_some() {
        return Some("the new logger stands at another site already");
    }
    let named = new.name.is_some() || new.group_id.is_some();
    named.then_some("the new logger is in use: it has a name or a group; empty them first")
}

/// Moves everything from the old device to the new one, and returns the new one's secret.
async fn swap(tx: &mut Tx, old: Device, new: &str, by: &By) -> Result<String, Error> {
    let old_id = old.device_id;
    tx.end_commands(&old_id, "the device was replaced", by.at).await?;
    tx.resolve_alerts_of(&old_id, "the device was replaced", by).await?;
    let edit = DeviceEdit {
        name: Some(old.name),
        description: Some(old.description),
        group_id: Some(old.group_id),
        tags: Some(Some(old.tags)),
        nominal_voltage_v: Some(old.nominal_voltage_v),
        nominal_frequency_hz: Some(old.nominal_frequency_hz),
        max_power_kw: Some(old.max_power_kw),
        counter_end: Some(old.counter_end),
        time_zone: Some(old.time_zone),
        enabled: Some(true),
    };
    apply_edit(tx, new, &edit, by.at).await?;
    tx.execute(
        "UPDATE devices SET replaces = $1,
             site = (SELECT site FROM devices WHERE device_id = $1)
         WHERE device_id = $2",
        vec![old_id.as_str().into(), new.into()],
    )
    .await?;
    // Out of its group, so that commands and rollouts to the group leave it out.
    tx.execute(
        "UPDATE devices SET replaced_by = $1, replaced_at = $2, enabled = $3, group_id = NULL,
             updated_at = $2
         WHERE device_id = $4",
        vec![new.into(), by.at.into(), false.into(), old_id.as_str().into()],
    )
    .await?;
    tx.inherit_config(&old_id, new, by.at).await?;
    tx.new_device_secret(new).await
}

/// Whether a device of that id was deleted, as far back as the audit reaches.
async fn was_deleted(tx: &mut Tx, device_id: &str) -> Result<bool, Error> {
    let sql = "SELECT COUNT(*) FROM audit WHERE object = $1 AND action = 'device.delete'";
    Ok(tx.count(sql, vec![device_id.into()]).await? > 0)
}
