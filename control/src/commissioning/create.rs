//! Creating devices before their first message.

use acuvim_model::{CreatedDevice, DeviceCredentials, NewDevice};
use serde_json::json;

use super::edit::{apply_edit, group_exists};
use crate::{
    audit::By,
    db::{Control, Tx},
    device_events::RegisteredBy,
    error::Error,
};

/// The outcome of creating a device.
#[derive(Debug, Clone)]
pub enum Created {
    /// Created; with its secret.
    Done(Box<CreatedDevice>),
    /// The id is taken.
    Taken,
    /// There is no such group.
    NoGroup,
}

impl Control {
    /// Creates a device with a secret to connect with.
    pub async fn create_device(&self, new: &NewDevice, by: &By) -> Result<Created, Error> {
        let mut tx = self.begin().await?;
        let created = create(&mut tx, new, by).await?;
        if let Created::Done(_) = &created {
            tx.commit().await?;
        }
        Ok(created)
    }

    /// Creates devices in one transaction, because their secrets are returned only once: after an error
    /// none exists, so that no secret is lost.
    pub async fn create_devices(&self, new: &[NewDevice], by: &By) -> Result<Vec<Created>, Error> {
        let mut tx = self.begin().await?;
        let mut all = Vec::with_capacity(new.len());
        for device in new {
            all.push(create(&mut tx, device, by).await?);
        }
        tx.commit().await?;
        Ok(all)
    }
}

/// Creates one device. Writes nothing unless the result is [`Created::Done`], so that the transaction
/// can go on to the next.
async fn create(tx: &mut Tx, new: &NewDevice, by: &By) -> Result<Created, Error> {
    let edit = new.as_edit();
    if !group_exists(tx, &edit).await? {
        return Ok(Created::NoGroup);
    }
    if !tx.add_device(&new.device_id, by.at).await? {
        return Ok(Created::Taken);
    }
    apply_edit(tx, &new.device_id, &edit, by.at).await?;
    let password = tx.new_device_secret(&new.device_id).await?;
    tx.emit_registered(&new.device_id, RegisteredBy::Person, by.at).await?;
    tx.audit(by, "device.create", &new.device_id, json!(new)).await?;
    let device = tx.device(&new.device_id, None).await?;
    let credentials = DeviceCredentials { username: new.device_id.clone(), password };
    Ok(device.map_or(Created::Taken, |device| {
        Created::Done(Box::new(CreatedDevice { device, credentials }))
    }))
}
