//! The types of the payloads, with the fields of PROTOCOL.md. Unknown fields are kept in `extra`.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use super::fields::whole;
use crate::time::{self, Micros};

/// A time of the device's clock: RFC 3339, or Unix seconds or milliseconds as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventTime(pub Micros);

impl<'de> Deserialize<'de> for EventTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(f64),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => time::parse_written(&text, None),
            Written::Number(number) => time::from_unix_number(number).ok_or(time::BadTime::Beyond),
        }
        .map(Self)
        .map_err(de::Error::custom)
    }
}

impl Serialize for EventTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time::to_rfc3339(self.0))
    }
}

/// A sign of life with the health of the device.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Heartbeat {
    /// The time of the device's clock; none while it is not set.
    pub ts: Option<EventTime>,
    /// Seconds between heartbeats; 60 if absent.
    pub heartbeat_interval_s: Option<u32>,
    /// The running firmware version.
    pub firmware_version: Option<String>,
    /// The type of the board, up to 64 characters.
    pub hardware: Option<String>,
    /// Milliseconds since the boot.
    pub uptime_ms: Option<u64>,
    /// How often the device has booted.
    pub boot: Option<u64>,
    /// The serial number of the meter.
    pub meter_serial: Option<String>,
    /// All other fields, among them those of [`crate::vitals::Vitals`].
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Heartbeat {
    /// The signal strength in dBm: as the device reports it, or from the CSQ of its modem (3GPP TS
    /// 27.007, 8.5: -113 dBm and 2 dB a step; 99 is unknown).
    #[must_use]
    pub fn signal_dbm(&self) -> Option<i64> {
        let whole = |key: &str| self.extra.get(key).and_then(whole);
        let csq = || whole("csq").filter(|csq| (0..=31).contains(csq));
        whole("signal_strength").or_else(|| csq().map(|csq| 2 * csq - 113))
    }
}

/// A response to a command.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Response {
    /// The id of the command.
    pub request_id: String,
    /// The progress of the command.
    pub status: ResponseStatus,
    /// The time of the device's clock.
    pub ts: Option<EventTime>,
    /// The name of the command.
    pub command: Option<String>,
    /// The device's error message.
    pub error: Option<String>,
    /// All other fields, such as `data`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The progress of a command as the device reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseStatus {
    /// Accepted and in progress.
    Ack,
    /// Carried out.
    Success,
    /// Not possible, or failed; `error` may say why.
    Error,
}

/// Connection state: a status message, or a last will.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Status {
    /// Whether the device is connected.
    pub status: Connection,
    /// The time; ignored in a last will, which is composed when the connection is made.
    pub ts: Option<EventTime>,
    /// `lwt` in a last will.
    pub reason: Option<String>,
    /// All other fields, unchanged.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The connection state that a device reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// The device has connected.
    Online,
    /// The device is about to disconnect, or its connection is lost.
    Offline,
}

/// An alert that the device raises or clears.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct DeviceAlert {
    /// The time of the device's clock.
    pub ts: EventTime,
    /// The type: a known one, or any other.
    pub r#type: String,
    /// How urgent it is; a warning if absent.
    pub severity: Option<Severity>,
    /// Whether it begins or ends; it begins if absent.
    pub state: Option<AlertState>,
    /// A message for people.
    pub message: Option<String>,
    /// The value that is over the limit.
    pub value: Option<f64>,
    /// The limit, in the unit of `value`.
    pub threshold: Option<f64>,
    /// All other fields, such as `metadata`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; nobody needs to act.
    Info,
    /// Somebody should look at it in working hours.
    #[default]
    Warning,
    /// Somebody should act at once, also at night.
    Critical,
}

impl Severity {
    /// The name in tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Info, Self::Warning, Self::Critical].into_iter().find(|s| s.as_str() == name)
    }
}

impl DeviceAlert {
    /// The phase concerned; empty if none is given.
    #[must_use]
    pub fn phase(&self) -> &str {
        let metadata = self.extra.get("metadata");
        metadata.and_then(|m| m.get("phase")).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Whether an alert begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The condition has begun.
    Raised,
    /// The condition is over.
    Cleared,
}

/// What a device is and can do.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Registration {
    /// The device id, which no topic says here.
    pub device_id: String,
    /// The MAC of its network interface.
    pub mac_address: Option<String>,
    /// The IMEI of the modem, 14 to 16 digits.
    pub imei: Option<String>,
    /// The ICCID of the SIM, 18 to 22 digits.
    pub iccid: Option<String>,
    /// The type of the board, up to 64 characters.
    pub hardware: Option<String>,
    /// The running firmware version.
    pub firmware_version: Option<String>,
    /// The capabilities of the device.
    pub capabilities: Option<Vec<String>>,
    /// How often the device has booted.
    pub boot: Option<u64>,
    /// The serial number of the meter.
    pub meter_serial: Option<String>,
    /// The largest MQTT packet that the device accepts, in bytes; 1024 if absent.
    pub max_packet_bytes: Option<u32>,
    /// The version of the protocol that the firmware speaks.
    pub protocol: Option<u32>,
    /// All other fields, unchanged.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
