//! Device configuration: by section, the desired values and those that the device has confirmed.

use std::collections::BTreeMap;

use acuvim_model::{ConfigChange, DeviceConfig};
use acuvim_wire::config::{Section, masked};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::{
    audit::By,
    db::{Control, Tx},
    error::Error,
};

type Values = BTreeMap<String, Json>;

#[derive(sqlx::FromRow)]
struct Row {
    section: String,
    desired: Option<String>,
    reported: Option<String>,
    updated_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct ChangeRow {
    version: i64,
    at: DateTime<Utc>,
    changed_by: String,
    section: String,
    changed: Json,
    request_id: Option<Uuid>,
}

impl From<ChangeRow> for ConfigChange {
    fn from(row: ChangeRow) -> Self {
        Self {
            version: row.version,
            at: row.at,
            by: row.changed_by,
            section: row.section,
            values: row.changed,
            request_id: row.request_id,
        }
    }
}

fn read(text: Option<&str>) -> Result<Values, Error> {
    match text {
        None => Ok(Values::new()),
        Some(text) => {
            serde_json::from_str(text).map_err(|e| Error::stored("a stored configuration", e))
        }
    }
}

fn write(values: &Values) -> Result<String, Error> {
    serde_json::to_string(values).map_err(|e| Error::stored("a configuration", e))
}

/// Whether two values are equal. Numbers are compared by value, because a device may print 60 as 60.0.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// The desired values that are not reported with the same value.
fn drifting(desired: &Values, reported: &Values) -> Values {
    let differs = |(key, value): &(&String, &Json)| {
        !reported.get(*key).is_some_and(|reported| same(reported, value))
    };
    desired.iter().filter(differs).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Desired values of a section, from the command that sets them.
pub(crate) struct Desired<'a> {
    pub section: Section,
    pub params: &'a Map<String, Json>,
    pub request_id: Uuid,
}

impl Tx {
    /// Adds values to the desired configuration of a device.
    pub(crate) async fn set_desired(
        &mut self,
        device_id: &str,
        desired: &Desired<'_>,
        by: &By,
    ) -> Result<(), Error> {
        let Desired { section, params, request_id } = *desired;
        // Locks the device, because two concurrent changes would each read the values without the
        // other's and write them back.
        self.execute(
            "UPDATE devices SET updated_at = updated_at WHERE device_id = $1",
            vec![device_id.into()],
        )
        .await?;
        let values = params.get("values").and_then(Json::as_object).cloned().unwrap_or_default();
        let row = self.config_row(device_id, section).await?;
        let mut desired = read(row.as_ref().and_then(|r| r.desired.as_deref()))?;
        desired.extend(values.clone());
        self.execute(
            "INSERT INTO configs (device_id, section, desired, updated_at)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (device_id, section) DO UPDATE SET
                 desired = excluded.desired, updated_at = excluded.updated_at",
            vec![device_id.into(), section.as_str().into(), write(&desired)?.into(), by.at.into()],
        )
        .await?;
        self.execute(
            "INSERT INTO config_changes (device_id, version, at, changed_by, section, changed,
                 request_id)
             SELECT $1, COALESCE(MAX(version), 0) + 1, $2, $3, $4, $5, $6
             FROM config_changes WHERE device_id = $1",
            vec![
                device_id.into(),
                by.at.into(),
                by.name.as_str().into(),
                section.as_str().into(),
                masked(Json::Object(values)).into(),
                request_id.into(),
            ],
        )
        .await
        .map(|_| ())
    }

    /// Adds values that a device has confirmed.
    pub(crate) async fn note_reported(
        &mut self,
        device_id: &str,
        section: Section,
        values: &Map<String, Json>,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        // Without the lock of `set_desired`: answers of a device are applied by the one writer of its
        // partition, and the columns are different ones.
        let row = self.config_row(device_id, section).await?;
        let mut reported = read(row.as_ref().and_then(|r| r.reported.as_deref()))?;
        reported.extend(values.clone());
        self.execute(
            "INSERT INTO configs (device_id, section, reported, updated_at)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (device_id, section) DO UPDATE SET
                 reported = excluded.reported, updated_at = excluded.updated_at",
            vec![device_id.into(), section.as_str().into(), write(&reported)?.into(), at.into()],
        )
        .await
        .map(|_| ())
    }

    /// The desired values that a device has not confirmed, by section.
    pub(crate) async fn drift(&mut self, device_id: &str) -> Result<Vec<(Section, Values)>, Error> {
        let rows = self.config_rows(device_id).await?;
        let mut drift = Vec::new();
        for row in rows {
            let values = drifting(&read(row.desired.as_deref())?, &read(row.reported.as_deref())?);
            if let Some(section) = Section::parse(&row.section)
                && !values.is_empty()
            {
                drift.push((section, values));
            }
        }
        Ok(drift)
    }

    /// Copies the desired configuration of a device to the one that replaces it.
    pub(crate) async fn inherit_config(
        &mut self,
        old: &str,
        new: &str,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        // A section in which the successor has values of its own stays as it is: somebody chose them for
        // that logger.
        for row in self.config_rows(old).await? {
            self.execute(
                "INSERT INTO configs (device_id, section, desired, updated_at)
                 VALUES ($1, $2, $3, $4) ON CONFLICT (device_id, section) DO NOTHING",
                vec![new.into(), row.section.into(), row.desired.into(), at.into()],
            )
            .await?;
        }
        Ok(())
    }

    async fn config_rows(&mut self, device_id: &str) -> Result<Vec<Row>, Error> {
        self.fetch_all(
            "SELECT section, desired, reported, updated_at FROM configs WHERE device_id = $1
             ORDER BY section",
            vec![device_id.into()],
        )
        .await
    }

    async fn config_row(
        &mut self,
        device_id: &str,
        section: Section,
    ) -> Result<Option<Row>, Error> {
        self.fetch_optional(
            "SELECT section, desired, reported, updated_at FROM configs
             WHERE device_id = $1 AND section = $2",
            vec![device_id.into(), section.as_str().into()],
        )
        .await
    }
}

impl Control {
    /// The configuration of a device, with secrets masked. Empty if it has none.
    pub async fn config(&self, device_id: &str) -> Result<DeviceConfig, Error> {
        let rows: Vec<Row> = self
            .fetch_all(
                "SELECT section, desired, reported, updated_at FROM configs
                 WHERE device_id = $1 ORDER BY section",
                vec![device_id.into()],
            )
            .await?;
        let version: Option<(Option<i64>,)> = self
            .fetch_optional(
                "SELECT MAX(version) FROM config_changes WHERE device_id = $1",
                vec![device_id.into()],
            )
            .await?;
        let mut config = DeviceConfig {
            desired: BTreeMap::new(),
            reported: BTreeMap::new(),
            drift: BTreeMap::new(),
            version: version.and_then(|(v,)| v).unwrap_or(0),
            updated_at: rows.iter().map(|row| row.updated_at).max(),
            history_url: format!("/api/devices/{device_id}/config/history"),
        };
        for row in rows {
            let desired = read(row.desired.as_deref())?;
            let reported = read(row.reported.as_deref())?;
            let drift: Vec<String> = drifting(&desired, &reported).into_keys().collect();
            if !drift.is_empty() {
                config.drift.insert(row.section.clone(), drift);
            }
            let shown = |values: Values| masked(Json::Object(values.into_iter().collect()));
            if row.desired.is_some() {
                config.desired.insert(row.section.clone(), shown(desired));
            }
            if row.reported.is_some() {
                config.reported.insert(row.section, shown(reported));
            }
        }
        Ok(config)
    }

    /// A page of the changes of the desired configuration, newest first, and their number.
    pub async fn config_changes(
        &self,
        device_id: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<(Vec<ConfigChange>, i64), Error> {
        let rows: Vec<ChangeRow> = self
            .fetch_all(
                "SELECT version, at, changed_by, section, changed, request_id FROM config_changes
                 WHERE device_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3",
                vec![device_id.into(), before.unwrap_or(i64::MAX).into(), limit.into()],
            )
            .await?;
        let sql = "SELECT COUNT(*) FROM config_changes WHERE device_id = $1";
        let total = self.count(sql, vec![device_id.into()]).await?;
        Ok((rows.into_iter().map(ConfigChange::from).collect(), total))
    }
}

#[cfg(test)]
mod tests;
