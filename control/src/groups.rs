//! Groups of devices.

use acuvim_model::{Group, GroupBody, MembersChange, Scope};
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    audit::By,
    db::{Control, Tx},
    error::Error,
    sites::revise,
    statement::Statement,
};

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    name: String,
    description: Option<String>,
    nominal_voltage_v: Option<f64>,
    nominal_frequency_hz: Option<f64>,
    max_power_kw: Option<f64>,
    counter_end: Option<f64>,
    time_zone: Option<String>,
    devices: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Group {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            nominal_voltage_v: row.nominal_voltage_v,
            nominal_frequency_hz: row.nominal_frequency_hz,
            max_power_kw: row.max_power_kw,
            counter_end: row.counter_end,
            time_zone: row.time_zone,
            devices: row.devices,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

const COLUMNS: &str = "g.id, g.name, g.description, g.nominal_voltage_v, g.nominal_frequency_hz,
    g.max_power_kw, g.counter_end, g.time_zone, (SELECT COUNT(*) FROM devices d WHERE d.group_id = g.id) AS devices,
    g.created_at, g.updated_at";

/// The groups whose ids are in a scope. A device in the scope does not make its group visible.
fn of_scope(scope: Option<&Scope>) -> Statement {
    let mut all = Statement::new("FROM groups g WHERE 1 = 1");
    if let Some(scope) = scope {
        if scope.group_ids.is_empty() {
            all.push("AND 1 = 0", []);
        } else {
            all.push("AND g.id IN", []);
            all.push_list(scope.group_ids.iter().map(|id| (*id).into()));
        }
    }
    all
}

impl Control {
    /// A page of groups by name, and the number of groups in the scope.
    pub async fn groups(
        &self,
        after: Option<&str>,
        limit: i64,
        scope: Option<&Scope>,
    ) -> Result<(Vec<Group>, i64), Error> {
        let all = of_scope(scope);
        let total = self.count_rows(&all).await?;
        let mut page = Statement::select(COLUMNS);
        page.append(&all);
        page.push(
            "AND g.name > ? ORDER BY g.name LIMIT ?",
            [after.unwrap_or_default().into(), limit.into()],
        );
        let rows: Vec<Row> = self.select(page).await?;
        Ok((rows.into_iter().map(Group::from).collect(), total))
    }

    /// One group, if it is in the scope.
    pub async fn group(&self, id: Uuid, scope: Option<&Scope>) -> Result<Option<Group>, Error> {
        let mut one = Statement::select(COLUMNS);
        one.append(&of_scope(scope));
        one.push("AND g.id = ?", [id.into()]);
        Ok(self.select_one::<Row>(one).await?.map(Group::from))
    }

    /// Creates a group.
    ///
    /// # Errors
    /// `ErrorKind::Conflict` if the name is taken.
    pub async fn create_group(&self, body: &GroupBody, by: &By) -> Result<Uuid, Error> {
        let id = Uuid::now_v7();
        let mut tx = self.begin().await?;
        tx.execute(
            "INSERT INTO groups (id, name, description, nominal_voltage_v, nominal_frequency_hz,
                 max_power_kw, counter_end, time_zone, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
            vec![
                id.into(),
                body.name.as_str().into(),
                body.description.clone().into(),
                body.nominal_voltage_v.into(),
                body.nominal_frequency_hz.into(),
                body.max_power_kw.into(),
                body.counter_end.into(),
                body.time_zone.clone().into(),
                by.at.into(),
            ],
        )
        .await?;
        tx.audit(by, "group.create", &id.to_string(), json!(body)).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Replaces the properties of a group. False if there is no such group.
    ///
    /// # Errors
    /// `ErrorKind::Conflict` if the name is taken.
    pub async fn update_group(&self, id: Uuid, body: &GroupBody, by: &By) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let written = tx
            .execute(
                "UPDATE groups SET name = $1, description = $2, nominal_voltage_v = $3,
                     nominal_frequency_hz = $4, max_power_kw = $5, counter_end = $6, time_zone = $7,
                     updated_at = $8 WHERE id = $9",
                vec![
                    body.name.as_str().into(),
                    body.description.clone().into(),
                    body.nominal_voltage_v.into(),
                    body.nominal_frequency_hz.into(),
                    body.max_power_kw.into(),
                    body.counter_end.into(),
                    body.time_zone.clone().into(),
                    by.at.into(),
                    id.into(),
                ],
            )
            .await?;
        if written == 0 {
            return Ok(false);
        }
        tx.audit(by, "group.update", &id.to_string(), json!(body)).await?;
        revise(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Deletes a group and keeps its devices. False if there is no such group.
    pub async fn delete_group(&self, id: Uuid, by: &By) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        tx.execute("UPDATE devices SET group_id = NULL WHERE group_id = $1", vec![id.into()])
            .await?;
        if tx.execute("DELETE FROM groups WHERE id = $1", vec![id.into()]).await? == 0 {
            return Ok(false);
        }
        tx.audit(by, "group.delete", &id.to_string(), json!({})).await?;
        revise(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Moves devices into a group and out of it, all or none. Returns a device that is not in the scope, if
    /// there is one; then nothing is changed.
    pub async fn change_members(
        &self,
        id: Uuid,
        change: &MembersChange,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<Option<String>, Error> {
        let mut tx = self.begin().await?;
        for device_id in &change.add {
            if tx.device(device_id, scope).await?.is_none() {
                return Ok(Some(device_id.clone()));
            }
            set_group(&mut tx, device_id, Some(id), by.at).await?;
        }
        for device_id in &change.remove {
            match tx.device(device_id, scope).await? {
                Some(device) if device.group_id == Some(id) => {
                    set_group(&mut tx, device_id, None, by.at).await?;
                }
                Some(_) => {}
                None => return Ok(Some(device_id.clone())),
            }
        }
        tx.audit(by, "group.members", &id.to_string(), json!(change)).await?;
        tx.commit().await?;
        Ok(None)
    }
}

async fn set_group(
    tx: &mut Tx,
    device_id: &str,
    group: Option<Uuid>,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE devices SET group_id = $1, updated_at = $2 WHERE device_id = $3",
        vec![group.into(), at.into(), device_id.into()],
    )
    .await
    .map(|_| ())
}

#[cfg(test)]
mod tests;
