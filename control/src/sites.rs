//! What the evaluation of rules and counters needs to know of devices beside their readings, with the values
//! of their group as defaults.

use acuvim_model::Scope;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    db::{Control, Tx},
    error::Error,
    scope::within,
    statement::Statement,
};

const SITES: &str = "SELECT d.device_id, d.group_id, d.tags,
        COALESCE(d.nominal_voltage_v, g.nominal_voltage_v) AS nominal_voltage_v,
        COALESCE(d.nominal_frequency_hz, g.nominal_frequency_hz) AS nominal_frequency_hz
    FROM devices d LEFT JOIN groups g ON g.id = d.group_id WHERE 1 = 1";

/// The properties of a device that rules depend on.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct DeviceSite {
    /// The id of the device.
    pub device_id: String,
    /// The group that it is in, if any.
    pub group_id: Option<Uuid>,
    /// Its tags, as JSON.
    pub tags: Option<Json>,
    /// The nominal voltage, line to neutral.
    pub nominal_voltage_v: Option<f64>,
    /// The nominal frequency.
    pub nominal_frequency_hz: Option<f64>,
}

/// The properties of a device's meter.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct DeviceMeter {
    /// The id of the device.
    pub device_id: String,
    /// The nominal voltage, line to neutral.
    pub nominal_voltage_v: Option<f64>,
    /// The highest power that it can measure, in kW.
    pub max_power_kw: Option<f64>,
    /// The value at which its energy counters overflow to zero.
    pub counter_end: Option<f64>,
}

impl Control {
    /// Changes whenever the result of the evaluation may: the number of changes of rules and groups, and the
    /// time of the last change of a device.
    pub async fn judged_by(&self) -> Result<(i64, Option<DateTime<Utc>>), Error> {
        let revision = self.remembered("rules.revision").await?;
        let revision = revision.and_then(|text| text.parse().ok()).unwrap_or(0);
        let changed: Option<(Option<DateTime<Utc>>,)> =
            self.fetch_optional("SELECT MAX(updated_at) FROM devices", vec![]).await?;
        Ok((revision, changed.and_then(|(at,)| at)))
    }

    /// The properties of the devices in a scope.
    pub async fn scoped_sites(&self, scope: &Scope) -> Result<Vec<DeviceSite>, Error> {
        let mut all = Statement::new(SITES);
        within(&mut all, Some(scope));
        self.select(all).await
    }

    /// The properties of devices that changed since a time or, without one, of all devices that have any.
    pub async fn device_sites(
        &self,
        since: Option<DateTime<Utc>>,
    ) -> Result<Vec<DeviceSite>, Error> {
        let mut all = Statement::new(SITES);
        match since {
            Some(since) => all.push("AND d.updated_at >= ?", [since.into()]),
            // Devices without any are like unknown ones.
            None => all.push(
                "AND (d.group_id IS NOT NULL OR d.tags IS NOT NULL
                     OR d.nominal_voltage_v IS NOT NULL OR d.nominal_frequency_hz IS NOT NULL)",
                [],
            ),
        }
        self.select(all).await
    }

    /// The properties of the meters that have any.
    pub async fn device_meters(&self) -> Result<Vec<DeviceMeter>, Error> {
        let text = "SELECT d.device_id,
                 COALESCE(d.nominal_voltage_v, g.nominal_voltage_v) AS nominal_voltage_v,
                 COALESCE(d.max_power_kw, g.max_power_kw) AS max_power_kw,
                 COALESCE(d.counter_end, g.counter_end) AS counter_end
             FROM devices d LEFT JOIN groups g ON g.id = d.group_id
             WHERE COALESCE(d.nominal_voltage_v, g.nominal_voltage_v, d.max_power_kw,
                 g.max_power_kw, d.counter_end, g.counter_end) IS NOT NULL";
        self.fetch_all(text, Vec::new()).await
    }

    /// The time zones of devices that have one.
    pub async fn device_zones(&self) -> Result<Vec<(String, String)>, Error> {
        let text = "SELECT d.device_id, COALESCE(d.time_zone, g.time_zone) AS time_zone
             FROM devices d LEFT JOIN groups g ON g.id = d.group_id
             WHERE COALESCE(d.time_zone, g.time_zone) IS NOT NULL";
        self.fetch_all(text, Vec::new()).await
    }
}

/// Makes streams read rules, groups and devices again.
pub(crate) async fn revise(tx: &mut Tx) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO settings (name, value) VALUES ('rules.revision', '1')
         ON CONFLICT (name) DO UPDATE
             SET value = CAST(CAST(settings.value AS BIGINT) + 1 AS TEXT)",
        vec![],
    )
    .await
    .map(|_| ())
}
