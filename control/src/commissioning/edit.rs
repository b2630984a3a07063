//! Changing what people enter about a device.

use acuvim_model::{Device, DeviceEdit, Scope};
use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{
    audit::By,
    db::{Control, Tx},
    error::Error,
    value::Value,
};

/// The outcome of changing a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Edited {
    /// The device was changed.
    Done(Box<Device>),
    /// There is no such device in the scope.
    NotFound,
    /// There is no such group.
    NoGroup,
}

impl Control {
    /// Changes what people enter about a device.
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
        if !group_exists(&mut tx, edit).await? {
            return Ok(Edited::NoGroup);
        }
        apply_edit(&mut tx, device_id, edit, by.at).await?;
        tx.audit(by, "device.update", device_id, json!(edit)).await?;
        let device = tx.device(device_id, None).await?;
        tx.commit().await?;
        Ok(device.map_or(Edited::NotFound, |device| Edited::Done(Box::new(device))))
    }
}

/// Whether the group of an edit exists; true if it names none.
pub(super) async fn group_exists(tx: &mut Tx, edit: &DeviceEdit) -> Result<bool, Error> {
    let Some(Some(group)) = edit.group_id else { return Ok(true) };
    let sql = "SELECT COUNT(*) FROM groups WHERE id = $1";
    Ok(tx.count(sql, vec![group.into()]).await? == 1)
}

/// The columns that an edit sets, each with its statement and value.
fn columns(edit: &DeviceEdit) -> Vec<(&'static str, Value)> {
    // A statement for each column, because the text of every statement is a literal; an edit has few
    // columns.
    let all: [(&'static str, Option<Value>); 9] = [
        ("UPDATE devices SET name = $1 WHERE device_id = $2", edit.name.clone().map(Value::from)),
        (
            "UPDATE devices SET description = $1 WHERE device_id = $2",
            edit.description.clone().map(Value::from),
        ),
        ("UPDATE devices SET group_id = $1 WHERE device_id = $2", edit.group_id.map(Value::from)),
        (
            "UPDATE devices SET nominal_voltage_v = $1 WHERE device_id = $2",
            edit.nominal_voltage_v.map(Value::from),
        ),
        (
            "UPDATE devices SET nominal_frequency_hz = $1 WHERE device_id = $2",
            edit.nominal_frequency_hz.map(Value::from),
        ),
        (
            "UPDATE devices SET max_power_kw = $1 WHERE device_id = $2",
            edit.max_power_kw.map(Value::from),
        ),
        (
            "UPDATE devices SET counter_end = $1 WHERE device_id = $2",
            edit.counter_end.map(Value::from),
        ),
        (
            "UPDATE devices SET time_zone = $1 WHERE device_id = $2",
            edit.time_zone.clone().map(Value::from),
        ),
        ("UPDATE devices SET enabled = $1 WHERE device_id = $2", edit.enabled.map(Value::from)),
    ];
    all.into_iter().filter_map(|(sql, value)| Some((sql, value?))).collect()
}

/// Writes the fields that an edit has, with what follows from them.
pub(super) async fn apply_edit(
    tx: &mut Tx,
    device_id: &str,
    edit: &DeviceEdit,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    for (sql, value) in columns(edit) {
        tx.execute(sql, vec![value, device_id.into()]).await?;
    }
    if let Some(tags) = &edit.tags {
        tx.set_tags(device_id, tags.as_deref().unwrap_or_default()).await?;
    }
    if let Some(enabled) = edit.enabled {
        tx.credentials_changed().await?;
        if !enabled {
            tx.end_commands(device_id, "the device was disabled", at).await?;
        }
    }
    tx.execute(
        "UPDATE devices SET updated_at = $1 WHERE device_id = $2",
        vec![at.into(), device_id.into()],
    )
    .await?;
    tx.update_search(device_id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fields_of_an_edit_are_written() {
        assert!(columns(&DeviceEdit::default()).is_empty());
        let edit = DeviceEdit {
            name: Some(None),
            max_power_kw: Some(Some(7.5)),
            enabled: Some(false),
            ..DeviceEdit::default()
        };
        let written: Vec<&str> = columns(&edit).into_iter().map(|(sql, _)| sql).collect();
        assert_eq!(written.len(), 3);
        for (sql, column) in written.iter().zip(["name", "max_power_kw", "enabled"]) {
            assert!(sql.contains(&format!("SET {column} = ")), "{sql}");
        }
    }
}
