//! What a person does to a device: makes, changes, replaces and deletes it.

use acuvim_schemas::api::{CreatedDevice, Device, DeviceCredentials, DeviceEdit, NewDevice, Scope};
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{DeviceRow, one};
use crate::{By, Control, Error, db::Tx, value::Value};

/// What became of a new device.
#[derive(Debug, Clone)]
pub enum Created {
    /// It is there, with its secret.
    Done(Box<CreatedDevice>),
    /// One of that id is there already.
    Taken,
    /// There is no such group.
    NoGroup,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Edited {
    /// It is as asked for.
    Done(Box<Device>),
    /// There is no such device in the scope.
    NotFound,
    /// There is no such group.
    NoGroup,
}

/// What became of a replacement.
#[derive(Debug, Clone)]
pub enum Replaced {
    /// The new logger has taken over, and has a secret of its own.
    Done(Box<CreatedDevice>),
    /// There is no such device in the scope.
    NotFound,
    /// The old one was replaced before, or the new one stands at another site.
    Conflict(&'static str),
}

impl Control {
    /// Why an id that a deleted device had is not taken for a new logger: whoever sees the logger would
    /// see what is stored of that device.
    pub const KNOWN_ID: &str = "readings of an earlier device are stored under that id; \
        if it is the same logger, make it a device first";

    /// Makes a device before it is heard of, with a secret to connect with.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn create_device(&self, new: &NewDevice, by: &By) -> Result<Created, Error> {
        let mut tx = self.begin().await?;
        let created = create(&mut tx, new, by).await?;
        if let Created::Done(_) = &created {
            tx.commit().await?;
        }
        Ok(created)
    }

    /// Makes devices, all in one: either the caller gets every secret, or there is none to get.
    ///
    /// # Errors
    /// When the database can't be asked; then none is made.
    pub async fn create_devices(&self, new: &[NewDevice], by: &By) -> Result<Vec<Created>, Error> {
        let mut tx = self.begin().await?;
        let mut all = Vec::with_capacity(new.len());
        for device in new {
            all.push(create(&mut tx, device, by).await?);
        }
        tx.commit().await?;
        Ok(all)
    }

    /// Changes what a person says of a device.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn edit_device(
        &self,
        device_id: &str,
        edit: &DeviceEdit,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<Edited, Error> {
        let mut tx = self.begin().await?;
        if tx.device(device_id, scope).await?.is_none() {
            return Ok(Edited::NotFound);
        }
        if !tx.group_is_there(edit).await? {
            return Ok(Edited::NoGroup);
        }
        tx.edit_device(device_id, edit, by.at).await?;
        tx.audit(by, "device.update", device_id, json!(edit)).await?;
        let device = tx.device(device_id, None).await?;
        tx.commit().await?;
        Ok(device.map_or(Edited::NotFound, |device| Edited::Done(Box::new(device))))
    }

    /// Forgets a device: its row, secret, configuration and open commands. Its history in the lake
    /// stays, and so do its commands that have ended; should it speak again, it is new.
    ///
    /// # Errors
    /// When the database can't be asked.
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
        Ok(true)
    }

    /// Puts a new logger in the place of one that is broken or gone: what a person said of the old
    /// one, and what it was to be configured as, holds for the new one, and the old one can't
    /// connect any more.
    ///
    /// # Errors
    /// When the database can't be asked.
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
        let is_new = tx.see_device(new, by.at).await?;
        if is_new && tx.was_deleted(new).await? {
            // To a scope it is as a device of somebody else.
            return Ok(match scope {
                Some(_) => Replaced::NotFound,
                None => Replaced::Conflict(Self::KNOWN_ID),
            });
        }
        // One that is known must be the caller's to take.
        let scope = if is_new { None } else { scope };
        let Some(there) = tx.device(new, scope).await? else { return Ok(Replaced::NotFound) };
        if old == new || there.replaces.is_some() || there.replaced_by.is_some() {
            return Ok(Replaced::Conflict("the new logger stands at another site already"));
        }
        if there.name.is_some() || there.group_id.is_some() {
            let reason = "the new logger is in use: it has a name or a group; empty them first";
            return Ok(Replaced::Conflict(reason));
        }
        if is_new {
            tx.tell_registered(new, "entered", by.at).await?;
        }
        tx.end_commands(old, "the device was replaced", by.at).await?;
        let edit = DeviceEdit {
            name: Some(before.name),
            description: Some(before.description),
            group_id: Some(before.group_id),
            tags: Some(Some(before.tags)),
            nominal_voltage_v: Some(before.nominal_voltage_v),
            nominal_frequency_hz: Some(before.nominal_frequency_hz),
            max_power_kw: Some(before.max_power_kw),
            counter_end: Some(before.counter_end),
            time_zone: Some(before.time_zone),
            enabled: Some(true),
        };
        tx.edit_device(new, &edit, by.at).await?;
        tx.execute(
            "UPDATE devices SET replaces = $1,
                 site = (SELECT site FROM devices WHERE device_id = $1)
             WHERE device_id = $2",
            vec![old.into(), new.into()],
        )
        .await?;
        tx.execute(
            "UPDATE devices SET replaced_by = $1, replaced_at = $2, enabled = $3, group_id = NULL,
                 updated_at = $2
             WHERE device_id = $4",
            vec![new.into(), by.at.into(), false.into(), old.into()],
        )
        .await?;
        tx.inherit_config(old, new, by.at).await?;
        let password = tx.new_device_secret(new).await?;
        tx.audit(by, "device.replace", old, json!({"new_device_id": new})).await?;
        let device = tx.device(new, None).await?;
        tx.commit().await?;
        let credentials = DeviceCredentials { username: new.to_owned(), password };
        Ok(device.map_or(Replaced::NotFound, |device| {
            Replaced::Done(Box::new(CreatedDevice { device, credentials }))
        }))
    }
}

/// Makes a device in a transaction. One whose group is not there leaves nothing behind.
async fn create(tx: &mut Tx, new: &NewDevice, by: &By) -> Result<Created, Error> {
    let edit = new.as_edit();
    if !tx.group_is_there(&edit).await? {
        return Ok(Created::NoGroup);
    }
    if !tx.see_device(&new.device_id, by.at).await? {
        return Ok(Created::Taken);
    }
    tx.edit_device(&new.device_id, &edit, by.at).await?;
    let password = tx.new_device_secret(&new.device_id).await?;
    tx.tell_registered(&new.device_id, "entered", by.at).await?;
    tx.audit(by, "device.create", &new.device_id, json!(new)).await?;
    let device = tx.device(&new.device_id, None).await?;
    let credentials = DeviceCredentials { username: new.device_id.clone(), password };
    Ok(device.map_or(Created::Taken, |device| {
        Created::Done(Box::new(CreatedDevice { device, credentials }))
    }))
}

impl Tx {
    pub(crate) async fn device(
        &mut self,
        device_id: &str,
        scope: Option<&Scope>,
    ) -> Result<Option<Device>, Error> {
        let (text, values) = one(device_id, scope);
        Ok(self.fetch_optional::<DeviceRow>(text, values).await?.map(Device::from))
    }

    /// Whether a device of that id was deleted, as far back as the audit reaches.
    async fn was_deleted(&mut self, device_id: &str) -> Result<bool, Error> {
        let found: Option<(i64,)> = self
            .fetch_optional(
                "SELECT COUNT(*) FROM audit WHERE object = $1 AND action = 'device.delete'",
                vec![device_id.into()],
            )
            .await?;
        Ok(found.is_some_and(|(n,)| n > 0))
    }

    async fn group_is_there(&mut self, edit: &DeviceEdit) -> Result<bool, Error> {
        let Some(Some(group)) = edit.group_id else { return Ok(true) };
        let found: Option<(i64,)> = self
            .fetch_optional("SELECT COUNT(*) FROM groups WHERE id = $1", vec![group.into()])
            .await?;
        Ok(found.is_some_and(|(n,)| n == 1))
    }

    /// Writes the fields that are given.
    async fn edit_device(
        &mut self,
        device_id: &str,
        edit: &DeviceEdit,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let set = async |tx: &mut Self, sql: &'static str, value: Value| {
            tx.execute(sql, vec![value, device_id.into()]).await.map(|_| ())
        };
        if let Some(name) = &edit.name {
            set(self, "UPDATE devices SET name = $1 WHERE device_id = $2", name.clone().into())
                .await?;
        }
        if let Some(text) = &edit.description {
            let sql = "UPDATE devices SET description = $1 WHERE device_id = $2";
            set(self, sql, text.clone().into()).await?;
        }
        if let Some(group) = edit.group_id {
            set(self, "UPDATE devices SET group_id = $1 WHERE device_id = $2", group.into())
                .await?;
        }
        if let Some(volts) = edit.nominal_voltage_v {
            let sql = "UPDATE devices SET nominal_voltage_v = $1 WHERE device_id = $2";
            set(self, sql, volts.into()).await?;
        }
        if let Some(hertz) = edit.nominal_frequency_hz {
            let sql = "UPDATE devices SET nominal_frequency_hz = $1 WHERE device_id = $2";
            set(self, sql, hertz.into()).await?;
        }
        if let Some(power) = edit.max_power_kw {
            let sql = "UPDATE devices SET max_power_kw = $1 WHERE device_id = $2";
            set(self, sql, power.into()).await?;
        }
        if let Some(end) = edit.counter_end {
            let sql = "UPDATE devices SET counter_end = $1 WHERE device_id = $2";
            set(self, sql, end.into()).await?;
        }
        if let Some(zone) = &edit.time_zone {
            let sql = "UPDATE devices SET time_zone = $1 WHERE device_id = $2";
            set(self, sql, zone.clone().into()).await?;
        }
        if let Some(tags) = &edit.tags {
            self.set_tags(device_id, tags.as_deref().unwrap_or_default()).await?;
        }
        if let Some(enabled) = edit.enabled {
            set(self, "UPDATE devices SET enabled = $1 WHERE device_id = $2", enabled.into())
                .await?;
            self.credentials_changed().await?;
            if !enabled {
                self.end_commands(device_id, "the device was disabled", at).await?;
            }
        }
        set(self, "UPDATE devices SET updated_at = $1 WHERE device_id = $2", at.into()).await?;
        self.note_search(device_id).await
    }

    async fn set_tags(&mut self, device_id: &str, tags: &[String]) -> Result<(), Error> {
        self.execute("DELETE FROM device_tags WHERE device_id = $1", vec![device_id.into()])
            .await?;
        for tag in tags {
            self.execute(
                "INSERT INTO device_tags (tag, device_id) VALUES ($1, $2)
                 ON CONFLICT (tag, device_id) DO NOTHING",
                vec![tag.into(), device_id.into()],
            )
            .await?;
        }
        self.execute(
            "UPDATE devices SET tags = $1 WHERE device_id = $2",
            vec![json!(tags).into(), device_id.into()],
        )
        .await
        .map(|_| ())
    }

    /// Ends every command to a device that is still open, also those on their way to it.
    async fn end_commands(
        &mut self,
        device_id: &str,
        reason: &str,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let open: Vec<(Uuid,)> = self
            .fetch_all(
                "SELECT request_id FROM commands
                 WHERE device_id = $1 AND status IN ('pending', 'sent', 'ack')",
                vec![device_id.into()],
            )
            .await?;
        // What happened to the device stays on its way to the lake.
        self.execute(
            "DELETE FROM outbox WHERE device_id = $1 AND kind <> 'event'",
            vec![device_id.into()],
        )
        .await?;
        for (request_id,) in open {
            let ended = self
                .execute(
                    "UPDATE commands SET status = 'error', error = $1, finished_at = $2,
                         deadline = NULL, waiting = $3, secret_params = NULL
                     WHERE request_id = $4 AND status IN ('pending', 'sent', 'ack')",
                    vec![reason.into(), at.into(), false.into(), request_id.into()],
                )
                .await?;
            if ended > 0 {
                self.tell_command(request_id).await?;
            }
        }
        Ok(())
    }

    /// Brings what a search looks at up to date.
    pub(crate) async fn note_search(&mut self, device_id: &str) -> Result<(), Error> {
        type Found =
            (Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);
        let found: Option<Found> = self
            .fetch_optional(
                "SELECT name, mac_address, imei, iccid, meter_serial FROM devices
                 WHERE device_id = $1",
                vec![device_id.into()],
            )
            .await?;
        let (name, mac, imei, iccid, meter) = found.unwrap_or_default();
        let texts = [Some(device_id.to_owned()), name, mac, imei, iccid, meter];
        // In Rust: SQLite knows the letters of ASCII alone.
        let search = texts.into_iter().flatten().collect::<Vec<_>>().join(" ").to_lowercase();
        self.execute(
            "UPDATE devices SET search = $1 WHERE device_id = $2",
            vec![search.into(), device_id.into()],
        )
        .await
        .map(|_| ())
    }
}
