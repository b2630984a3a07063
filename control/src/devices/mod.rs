//! Devices: what they say of themselves, what a person says of them, and whether they may connect.

mod edit;
mod list;
mod secrets;

use acuvim_schemas::api::{Device, DeviceStatus, Scope};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Control, Error, scope::within, text::Statement};

pub use edit::{Created, Edited, Replaced};
pub use list::{DeviceFilter, DeviceSort};
pub use secrets::DeviceSecrets;

/// The columns of a device `d`.
pub(crate) const COLUMNS: &str = "d.device_id, d.name, d.description, d.mac_address, d.imei,
    d.iccid, d.hardware, d.firmware_version, d.capabilities, d.meter_serial, d.max_packet_bytes,
    d.status, d.status_at, d.registered, d.enabled, d.connected, d.heard_at, d.last_heartbeat, d.heartbeat_interval_s,
    d.last_telemetry, d.connection_type, d.signal_strength, d.ip_address, d.boot_count,
    d.uptime_ms, d.group_id, d.tags, d.nominal_voltage_v, d.nominal_frequency_hz,
    d.max_power_kw, d.counter_end, d.time_zone,
    d.replaces, d.replaced_by, d.replaced_at, d.created_at, d.updated_at";

#[derive(sqlx::FromRow)]
pub(crate) struct DeviceRow {
    device_id: String,
    name: Option<String>,
    description: Option<String>,
    mac_address: Option<String>,
    imei: Option<String>,
    iccid: Option<String>,
    hardware: Option<String>,
    firmware_version: Option<String>,
    capabilities: Json,
    meter_serial: Option<String>,
    max_packet_bytes: Option<i64>,
    status: String,
    status_at: Option<DateTime<Utc>>,
    registered: bool,
    enabled: bool,
    connected: Option<bool>,
    heard_at: Option<DateTime<Utc>>,
    last_heartbeat: Option<DateTime<Utc>>,
    heartbeat_interval_s: Option<i64>,
    last_telemetry: Option<DateTime<Utc>>,
    connection_type: Option<String>,
    signal_strength: Option<i64>,
    ip_address: Option<String>,
    boot_count: Option<i64>,
    uptime_ms: Option<i64>,
    group_id: Option<Uuid>,
    tags: Option<Json>,
    nominal_voltage_v: Option<f64>,
    nominal_frequency_hz: Option<f64>,
    max_power_kw: Option<f64>,
    counter_end: Option<f64>,
    time_zone: Option<String>,
    replaces: Option<String>,
    replaced_by: Option<String>,
    replaced_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<DeviceRow> for Device {
    fn from(row: DeviceRow) -> Self {
        let texts = |json: Json| serde_json::from_value(json).unwrap_or_default();
        Self {
            device_id: row.device_id,
            name: row.name,
            description: row.description,
            mac_address: row.mac_address,
            imei: row.imei,
            iccid: row.iccid,
            hardware: row.hardware,
            firmware_version: row.firmware_version,
            capabilities: texts(row.capabilities),
            meter_serial: row.meter_serial,
            max_packet_bytes: row.max_packet_bytes,
            status: DeviceStatus::parse(&row.status).unwrap_or(DeviceStatus::Offline),
            status_at: row.status_at,
            registered: row.registered,
            enabled: row.enabled,
            connected: row.connected,
            heard_at: row.heard_at,
            last_heartbeat: row.last_heartbeat,
            heartbeat_interval_s: row.heartbeat_interval_s,
            last_telemetry: row.last_telemetry,
            connection_type: row.connection_type,
            signal_strength: row.signal_strength,
            ip_address: row.ip_address,
            boot_count: row.boot_count,
            uptime_ms: row.uptime_ms,
            group_id: row.group_id,
            tags: row.tags.map(texts).unwrap_or_default(),
            nominal_voltage_v: row.nominal_voltage_v,
            nominal_frequency_hz: row.nominal_frequency_hz,
            max_power_kw: row.max_power_kw,
            counter_end: row.counter_end,
            time_zone: row.time_zone,
            replaces: row.replaces,
            replaced_by: row.replaced_by,
            replaced_at: row.replaced_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl Control {
    /// One device, if it is in the scope.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device(
        &self,
        device_id: &str,
        scope: Option<&Scope>,
    ) -> Result<Option<Device>, Error> {
        let (text, values) = one(device_id, scope);
        let row: Option<DeviceRow> = self.fetch_optional(text, values).await?;
        Ok(row.map(Device::from))
    }

    /// How many devices of a scope have each status.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_counts(
        &self,
        scope: Option<&Scope>,
    ) -> Result<Vec<(DeviceStatus, i64)>, Error> {
        let mut statement = Statement::new("SELECT d.status, COUNT(*) FROM devices d WHERE 1 = 1");
        within(&mut statement, scope);
        statement.push("GROUP BY d.status", []);
        let (text, values) = statement.into_parts();
        let rows: Vec<(String, i64)> = self.fetch_all(text, values).await?;
        let known = |(status, n): (String, i64)| Some((DeviceStatus::parse(&status)?, n));
        Ok(rows.into_iter().filter_map(known).collect())
    }
}

/// The statement that reads one device.
fn one(
    device_id: &str,
    scope: Option<&Scope>,
) -> (sqlx::AssertSqlSafe<String>, Vec<crate::value::Value>) {
    let mut statement = Statement::new("SELECT");
    statement.push(COLUMNS, []);
    statement.push("FROM devices d WHERE d.device_id = ?", [device_id.into()]);
    within(&mut statement, scope);
    statement.into_parts()
}
