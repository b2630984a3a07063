//! Devices: what the fleet list shows, and what a person may change of one.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// The state of a device, from when it was last heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// It was heard lately: within three of its heartbeat intervals by default.
    Online,
    /// It is late: not heard for three intervals by default.
    Degraded,
    /// It was not heard for five intervals by default, was reported to be offline, or was never heard.
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
    /// The device id: 1 to 32 of A-Z a-z 0-9 _ -
    #[cfg_attr(feature = "openapi", schema(example = "ACV-AABBCCDDEEFF"))]
    pub device_id: String,
    /// The name that a person has given it.
    #[cfg_attr(feature = "openapi", schema(example = "Substation 4, feeder 2"))]
    pub name: Option<String>,
    /// A description that a person has given it.
    pub description: Option<String>,
    /// The MAC address of its registration, such as `AA:BB:CC:DD:EE:FF`.
    pub mac_address: Option<String>,
    /// The IMEI of its modem, 14 to 16 digits.
    pub imei: Option<String>,
    /// The ICCID of its SIM, 18 to 22 digits.
    pub iccid: Option<String>,
    /// The type of its board, as it reports it.
    pub hardware: Option<String>,
    /// The firmware version that it runs, as it last reported.
    pub firmware_version: Option<String>,
    /// What it can do, as it reports it: `wifi`, `gsm`, `sd`, ...
    pub capabilities: Vec<String>,
    /// The serial number of the meter that it reads.
    pub meter_serial: Option<String>,
    /// The largest MQTT packet it takes, in bytes; 1024 if it did not say.
    pub max_packet_bytes: Option<i64>,
    /// Whether it is online, from when it was last heard.
    pub status: DeviceStatus,
    /// When its status last changed.
    pub status_at: Option<DateTime<Utc>>,
    /// Whether it has registered; a device that only sent other messages has not.
    pub registered: bool,
    /// Whether its MQTT credentials are accepted.
    pub enabled: bool,
    /// Whether its connection is open, as far as the broker or its status messages say; null if unknown.
    pub connected: Option<bool>,
    /// When the last message of it arrived.
    pub heard_at: Option<DateTime<Utc>>,
    /// The time of its newest heartbeat.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// Seconds between its heartbeats, as it says.
    pub heartbeat_interval_s: Option<i64>,
    /// The time of its newest reading. It is updated every half minute.
    pub last_telemetry: Option<DateTime<Utc>>,
    /// How it is connected: `wifi` or `gsm`.
    pub connection_type: Option<String>,
    /// The strength of its signal in dBm, such as -61.
    pub signal_strength: Option<i64>,
    /// Its own address, as it reports it.
    pub ip_address: Option<String>,
    /// How often it has booted, as it counts.
    pub boot_count: Option<i64>,
    /// Milliseconds since its boot, at the newest heartbeat.
    pub uptime_ms: Option<i64>,
    /// The id of its group; null if it is in none.
    pub group_id: Option<Uuid>,
    /// Words to find it by, up to 32.
    pub tags: Vec<String>,
    /// The nominal voltage, line to neutral, in volts; null: that of its group.
    pub nominal_voltage_v: Option<f64>,
    /// The nominal frequency in hertz; null: that of its group.
    pub nominal_frequency_hz: Option<f64>,
    /// The most power that its meter can measure, in kW: counters that imply more are not believed. Null:
    /// that of its group.
    pub max_power_kw: Option<f64>,
    /// The value at which its energy counters start again from 0, in their unit. Null: that of its group,
    /// or 100000000.
    pub counter_end: Option<f64>,
    /// The IANA name of its time zone; null: that of its group.
    #[cfg_attr(feature = "openapi", schema(example = "Africa/Johannesburg"))]
    pub time_zone: Option<String>,
    /// The id of the logger that it has replaced at its site.
    pub replaces: Option<String>,
    /// The id of the logger that has replaced it at its site.
    pub replaced_by: Option<String>,
    /// When it was replaced: its readings count for the site up to then.
    pub replaced_at: Option<DateTime<Utc>>,
    /// When its first message arrived, or a person added it.
    pub created_at: DateTime<Utc>,
    /// When a person or a registration last changed it.
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
    // serde calls this only for a field that is there; an absent one gets the default, none.
    Option::<T>::deserialize(deserializer).map(Some)
}

/// `PATCH /api/devices/{device_id}`: what is absent stays, null empties.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DeviceEdit {
    /// The name, up to 100 characters.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "Substation 4, feeder 2"))]
    pub name: Option<Option<String>>,
    /// The description, up to 1000 characters.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub description: Option<Option<String>>,
    /// The id of its group; null takes it out of its group.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Uuid>))]
    pub group_id: Option<Option<Uuid>>,
    /// Up to 32 words of up to 64 characters, in place of those it has.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>, example = json!(["critical", "roof"])))]
    pub tags: Option<Option<Vec<String>>>,
    /// The nominal voltage, line to neutral: 10 to 1000000 V.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, example = 230.0))]
    pub nominal_voltage_v: Option<Option<f64>>,
    /// The nominal frequency: 40 to 70 Hz.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, example = 50.0))]
    pub nominal_frequency_hz: Option<Option<f64>>,
    /// The most power that its meter can measure: 0.001 to 1e9 kW. Counters that imply more are not
    /// believed.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, example = 630.0))]
    pub max_power_kw: Option<Option<f64>>,
    /// The value at which its energy counters start again from 0, in their unit: 1000 to 1e12.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, example = 1000000.0))]
    pub counter_end: Option<Option<f64>>,
    /// The IANA name of its time zone.
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
    /// The device id: 1 to 32 of A-Z a-z 0-9 _ -
    #[cfg_attr(feature = "openapi", schema(example = "ACV-AABBCCDDEEFF"))]
    pub device_id: String,
    /// The name, up to 100 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// The description, up to 1000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// The id of its group; in none unless given.
    #[serde(default)]
    pub group_id: Option<Uuid>,
    /// Up to 32 words of up to 64 characters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The nominal voltage, line to neutral: 10 to 1000000 V.
    #[serde(default)]
    pub nominal_voltage_v: Option<f64>,
    /// The nominal frequency: 40 to 70 Hz.
    #[serde(default)]
    pub nominal_frequency_hz: Option<f64>,
    /// The most power that its meter can measure: 0.001 to 1e9 kW. Counters that imply more are not
    /// believed.
    #[serde(default)]
    pub max_power_kw: Option<f64>,
    /// The value at which its energy counters start again from 0, in their unit: 1000 to 1e12.
    #[serde(default)]
    pub counter_end: Option<f64>,
    /// The IANA name of its time zone.
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
    /// The device as it was stored.
    pub device: Device,
    /// The MQTT user name and password for its firmware.
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
    /// The MQTT user name, which is the device id.
    pub username: String,
    /// The MQTT password. It is stored as a hash alone.
    pub password: String,
}

/// `GET /api/devices/{device_id}/status`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceState {
    /// The device id.
    pub device_id: String,
    /// Whether it is online, from when it was last heard.
    pub status: DeviceStatus,
    /// When its status last changed.
    pub status_at: Option<DateTime<Utc>>,
    /// The time of its newest heartbeat.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// The time of its newest reading.
    pub last_telemetry: Option<DateTime<Utc>>,
    /// How it is connected: `wifi` or `gsm`.
    pub connection_type: Option<String>,
    /// The strength of its signal in dBm, such as -61.
    pub signal_strength: Option<i64>,
    /// Milliseconds since its boot, at the newest heartbeat.
    pub uptime_ms: Option<i64>,
    /// Whether its connection is open, as far as the broker or its status messages say; null if unknown.
    pub connected: Option<bool>,
    /// When the last message of it arrived.
    pub heard_at: Option<DateTime<Utc>>,
    /// How many seconds its clock is ahead; null if it is not. Its readings are stored, but are not its
    /// latest, and no rule evaluates them.
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

#[cfg(test)]
mod tests;
