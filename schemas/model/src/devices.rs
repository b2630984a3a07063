//! Devices: what the fleet list shows, and what a person may change of one.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// Whether a device is there, as far as it has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// It is.
    Online,
    /// It is late.
    Degraded,
    /// It is not, or has not been heard of yet.
    Offline,
}

impl DeviceStatus {
    /// The name in tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Online, Self::Degraded, Self::Offline].into_iter().find(|s| s.as_str() == name)
    }
}

/// A device as the fleet list shows it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(example = "ACV-AABBCCDDEEFF"))]
    pub device_id: String,
    /// What a person calls it.
    #[cfg_attr(feature = "openapi", schema(example = "Substation 4, feeder 2"))]
    pub name: Option<String>,
    /// What a person says about it.
    pub description: Option<String>,
    /// The MAC it registered with.
    pub mac_address: Option<String>,
    /// The modem's IMEI.
    pub imei: Option<String>,
    /// The SIM's ICCID.
    pub iccid: Option<String>,
    /// The board.
    pub hardware: Option<String>,
    /// The running firmware.
    pub firmware_version: Option<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// The meter behind it.
    pub meter_serial: Option<String>,
    /// The largest MQTT packet it takes, in bytes; 1024 if it did not say.
    pub max_packet_bytes: Option<i64>,
    /// Whether it is there, as far as it has said.
    pub status: DeviceStatus,
    /// Since when it has this status.
    pub status_at: Option<DateTime<Utc>>,
    /// Whether it has announced itself; a device that only sent readings has not.
    pub registered: bool,
    /// Whether its credentials are accepted.
    pub enabled: bool,
    /// Whether its connection is there, where it says so.
    pub connected: Option<bool>,
    /// When it was last heard.
    pub heard_at: Option<DateTime<Utc>>,
    /// The time of its newest heartbeat.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// Seconds between its heartbeats, as it says.
    pub heartbeat_interval_s: Option<i64>,
    /// The time of its newest reading, which may be half a minute behind.
    pub last_telemetry: Option<DateTime<Utc>>,
    /// `wifi` or `gsm`.
    pub connection_type: Option<String>,
    /// dBm.
    pub signal_strength: Option<i64>,
    /// As the device knows it.
    pub ip_address: Option<String>,
    /// Boot count.
    pub boot_count: Option<i64>,
    /// Milliseconds since its boot, at the newest heartbeat.
    pub uptime_ms: Option<i64>,
    /// Its group.
    pub group_id: Option<Uuid>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Line to neutral, in volts; its group's holds if null.
    pub nominal_voltage_v: Option<f64>,
    /// In hertz; its group's holds if null.
    pub nominal_frequency_hz: Option<f64>,
    /// The most power that its meter can measure, in kW, beyond which its counters are not believed; its
    /// group's holds if null.
    pub max_power_kw: Option<f64>,
    /// Where its energy counters begin again at zero, in their unit; its group's holds if null, or
    /// 100000000.
    pub counter_end: Option<f64>,
    /// IANA name; its group's holds if null.
    #[cfg_attr(feature = "openapi", schema(example = "Africa/Johannesburg"))]
    pub time_zone: Option<String>,
    /// The logger that stood at this site before.
    pub replaces: Option<String>,
    /// The logger that stands at this site now.
    pub replaced_by: Option<String>,
    /// When it was replaced: its readings count for the site up to then.
    pub replaced_at: Option<DateTime<Utc>>,
    /// Since when it is known.
    pub created_at: DateTime<Utc>,
    /// Last change of what a person or a registration says.
    pub updated_at: DateTime<Utc>,
}

impl Device {
    /// The fields that nobody can set: `PUT` takes and ignores them, so that what was read can be
    /// sent back.
    pub const READ_ONLY: [&'static str; 27] = [
        "device_id",
        "mac_address",
        "imei",
        "iccid",
        "hardware",
        "firmware_version",
        "capabilities",
        "meter_serial",
        "max_packet_bytes",
        "status",
        "status_at",
        "registered",
        "connected",
        "heard_at",
        "last_heartbeat",
        "heartbeat_interval_s",
        "last_telemetry",
        "connection_type",
        "signal_strength",
        "ip_address",
        "boot_count",
        "uptime_ms",
        "replaces",
        "replaced_by",
        "replaced_at",
        "created_at",
        "updated_at",
    ];
}

/// A field of a merge patch: absent, null, or a value.
#[expect(clippy::option_option, reason = "absent and null are two things")]
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// `PATCH /api/devices/{device_id}`: what is absent stays, null empties.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DeviceEdit {
    /// Up to 100 characters.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "Substation 4, feeder 2"))]
    pub name: Option<Option<String>>,
    /// Up to 1000 characters.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub description: Option<Option<String>>,
    /// The id of a group.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Uuid>))]
    pub group_id: Option<Option<Uuid>>,
    /// Up to 32 words of up to 64 characters.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>, example = json!(["critical", "roof"])))]
    pub tags: Option<Option<Vec<String>>>,
    /// Line to neutral, in volts.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, example = 230.0))]
    pub nominal_voltage_v: Option<Option<f64>>,
    /// In hertz.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, example = 50.0))]
    pub nominal_frequency_hz: Option<Option<f64>>,
    /// The most power that its meter can measure, in kW, beyond which its counters are not believed.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, example = 630.0))]
    pub max_power_kw: Option<Option<f64>>,
    /// Where its energy counters begin again at zero, in their unit.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, example = 1000000.0))]
    pub counter_end: Option<Option<f64>>,
    /// IANA name.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "Africa/Johannesburg"))]
    pub time_zone: Option<Option<String>>,
    /// False: its credentials are not accepted, and its connection ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// `POST /api/devices`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// 1 to 32 of A-Z a-z 0-9 _ -
    #[cfg_attr(feature = "openapi", schema(example = "ACV-AABBCCDDEEFF"))]
    pub device_id: String,
    /// Up to 100 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// Up to 1000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// The id of a group.
    #[serde(default)]
    pub group_id: Option<Uuid>,
    /// Up to 32 words of up to 64 characters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Line to neutral, in volts.
    #[serde(default)]
    pub nominal_voltage_v: Option<f64>,
    /// In hertz.
    #[serde(default)]
    pub nominal_frequency_hz: Option<f64>,
    /// The most power that its meter can measure, in kW.
    #[serde(default)]
    pub max_power_kw: Option<f64>,
    /// Where its energy counters begin again at zero, in their unit.
    #[serde(default)]
    pub counter_end: Option<f64>,
    /// IANA name.
    #[serde(default)]
    pub time_zone: Option<String>,
}

impl NewDevice {
    /// The same as an edit, for the checks that both share.
    #[must_use]
    pub fn as_edit(&self) -> DeviceEdit {
        DeviceEdit {
            name: Some(self.name.clone()),
            description: Some(self.description.clone()),
            group_id: Some(self.group_id),
            tags: Some(Some(self.tags.clone())),
            nominal_voltage_v: Some(self.nominal_voltage_v),
            nominal_frequency_hz: Some(self.nominal_frequency_hz),
            max_power_kw: Some(self.max_power_kw),
            counter_end: Some(self.counter_end),
            time_zone: Some(self.time_zone.clone()),
            enabled: None,
        }
    }
}

/// A new device with its MQTT secret: the only time it is shown.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedDevice {
    /// The device.
    pub device: Device,
    /// What it connects with.
    pub credentials: DeviceCredentials,
}

/// `POST /api/devices/{device_id}/replace`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReplaceRequest {
    /// The logger that stands there from now on: new, or heard of and not in use elsewhere.
    #[cfg_attr(feature = "openapi", schema(example = "ACV-001122334455"))]
    pub new_device_id: String,
}

/// A device's MQTT secret: the only time it is shown.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceCredentials {
    /// The MQTT user name.
    pub username: String,
    /// The MQTT password.
    pub password: String,
}

/// `GET /api/devices/{device_id}/status`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceState {
    /// Whose.
    pub device_id: String,
    /// Whether it is there, as far as it has said.
    pub status: DeviceStatus,
    /// Since when it has this status.
    pub status_at: Option<DateTime<Utc>>,
    /// The time of its newest heartbeat.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// The time of its newest reading.
    pub last_telemetry: Option<DateTime<Utc>>,
    /// `wifi` or `gsm`.
    pub connection_type: Option<String>,
    /// dBm.
    pub signal_strength: Option<i64>,
    /// Milliseconds since its boot, at the newest heartbeat.
    pub uptime_ms: Option<i64>,
    /// Whether its connection is there, where it says so; apart from how fresh its data is.
    pub connected: Option<bool>,
    /// When it was last heard.
    pub heard_at: Option<DateTime<Utc>>,
    /// By how many seconds its clock is ahead, if it is: what it measures then is stored, and neither
    /// its latest nor judged.
    pub clock_ahead_seconds: Option<f64>,
    /// Settings that rules need of it and that neither it nor its group has: those rules don't run. And
    /// the `gap_seconds` of rules that are shorter than the time between its readings: those never hold.
    pub missing_settings: Vec<String>,
}

impl From<Device> for DeviceState {
    fn from(device: Device) -> Self {
        Self {
            device_id: device.device_id,
            status: device.status,
            status_at: device.status_at,
            last_heartbeat: device.last_heartbeat,
            last_telemetry: device.last_telemetry,
            connection_type: device.connection_type,
            signal_strength: device.signal_strength,
            uptime_ms: device.uptime_ms,
            connected: device.connected,
            heard_at: device.heard_at,
            clock_ahead_seconds: None,
            missing_settings: Vec::new(),
        }
    }
}
