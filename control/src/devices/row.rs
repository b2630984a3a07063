//! The row of a device.

use acuvim_model::{Device, DeviceStatus};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

/// The columns of [`DeviceRow`], of the table alias `d`.
pub(super) const COLUMNS: &str = "d.device_id, d.name, d.description, d.mac_address, d.imei,
    d.iccid, d.hardware, d.firmware_version, d.capabilities, d.meter_serial, d.max_packet_bytes,
    d.status, d.status_at, d.registered, d.enabled, d.connected, d.heard_at, d.last_heartbeat, d.heartbeat_interval_s,
    d.last_telemetry, d.connection_type, d.signal_strength, d.ip_address, d.boot_count,
    d.uptime_ms, d.group_id, d.tags, d.nominal_voltage_v, d.nominal_frequency_hz,
    d.max_power_kw, d.counter_end, d.time_zone,
    d.replaces, d.replaced_by, d.replaced_at, d.created_at, d.updated_at";

#[derive(sqlx::FromRow)]
pub(super) struct DeviceRow {
    pub device_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub mac_address: Option<String>,
    pub imei: Option<String>,
    pub iccid: Option<String>,
    pub hardware: Option<String>,
    pub firmware_version: Option<String>,
    pub capabilities: Json,
    pub meter_serial: Option<String>,
    pub max_packet_bytes: Option<i64>,
    pub status: String,
    pub status_at: Option<DateTime<Utc>>,
    pub registered: bool,
    pub enabled: bool,
    pub connected: Option<bool>,
    pub heard_at: Option<DateTime<Utc>>,
    pub last_heartbeat: Option<DateTime<Utc>>,
    pub heartbeat_interval_s: Option<i64>,
    pub last_telemetry: Option<DateTime<Utc>>,
    pub connection_type: Option<String>,
    pub signal_strength: Option<i64>,
    pub ip_address: Option<String>,
    pub boot_count: Option<i64>,
    pub uptime_ms: Option<i64>,
    pub group_id: Option<Uuid>,
    pub tags: Option<Json>,
    pub nominal_voltage_v: Option<f64>,
    pub nominal_frequency_hz: Option<f64>,
    pub max_power_kw: Option<f64>,
    pub counter_end: Option<f64>,
    pub time_zone: Option<String>,
    pub replaces: Option<String>,
    pub replaced_by: Option<String>,
    pub replaced_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
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
