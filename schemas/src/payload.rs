//! The other payload kinds, as PROTOCOL.md gives them, checked field by field.

mod fields;

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use crate::{
    dead_letter::Reason,
    decimal,
    device::is_device_id,
    kind::Kind,
    text,
    time::{self, Micros},
};
pub use fields::{ODD, serial_of};

/// A moment on the device: RFC 3339, or Unix seconds or milliseconds as a number.
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

/// Device health.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Heartbeat {
    /// When, by the device's clock; absent while it has none.
    pub ts: Option<EventTime>,
    /// Seconds between heartbeats; 60 if it does not say.
    pub heartbeat_interval_s: Option<u32>,
    /// The running firmware.
    pub firmware_version: Option<String>,
    /// The board.
    pub hardware: Option<String>,
    /// Milliseconds since the boot.
    pub uptime_ms: Option<u64>,
    /// Boot count.
    pub boot: Option<u64>,
    /// The meter behind the logger.
    pub meter_serial: Option<String>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Heartbeat {
    /// The signal in dBm: as the device says it, or from its modem's CSQ (3GPP TS 27.007, 8.5:
    /// -113 dBm and 2 dB a step; 99 is unknown).
    #[must_use]
    pub fn signal_dbm(&self) -> Option<i64> {
        let whole = |key: &str| self.extra.get(key).and_then(whole);
        let csq = || whole("csq").filter(|csq| (0..=31).contains(csq));
        whole("signal_strength").or_else(|| csq().map(|csq| 2 * csq - 113))
    }
}

/// An answer to a command.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Response {
    /// Which command.
    pub request_id: String,
    /// How far it came.
    pub status: ResponseStatus,
    /// When, by the device's clock.
    pub ts: Option<EventTime>,
    /// What the command was.
    pub command: Option<String>,
    /// The device's words on a failure.
    pub error: Option<String>,
    /// Everything else, `data` among it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How far a command came, in the device's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseStatus {
    /// Taken, not done yet.
    Ack,
    /// Done.
    Success,
    /// Failed.
    Error,
}

/// Connection state: the retained status, or the last will.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Status {
    /// Online or offline.
    pub status: Connection,
    /// When; ignored on a last will, which was composed at connect.
    pub ts: Option<EventTime>,
    /// `lwt` on a last will.
    pub reason: Option<String>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Whether a device says it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// It is.
    Online,
    /// It is not.
    Offline,
}

/// An alert that the device raises or clears.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct DeviceAlert {
    /// When.
    pub ts: EventTime,
    /// What: one of the known types, or another.
    pub r#type: String,
    /// How bad; warning if it does not say.
    pub severity: Option<Severity>,
    /// Raised if it does not say.
    pub state: Option<AlertState>,
    /// In words.
    pub message: Option<String>,
    /// The value that broke the limit.
    pub value: Option<f64>,
    /// The limit.
    pub threshold: Option<f64>,
    /// Everything else, `metadata` among it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How bad an alert is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look.
    #[default]
    Warning,
    /// Worth waking somebody.
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
    /// The phase that it is about, empty if it names none.
    #[must_use]
    pub fn phase(&self) -> &str {
        let metadata = self.extra.get("metadata");
        metadata.and_then(|m| m.get("phase")).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Whether a device's alert begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Begins.
    Raised,
    /// Ends.
    Cleared,
}

/// A device announces itself.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Registration {
    /// Who.
    pub device_id: String,
    /// The MAC of its network interface.
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
    pub capabilities: Option<Vec<String>>,
    /// Boot count.
    pub boot: Option<u64>,
    /// The meter behind the logger.
    pub meter_serial: Option<String>,
    /// The largest MQTT packet it can take, in bytes; 1024 if it does not say.
    pub max_packet_bytes: Option<u32>,
    /// Protocol version.
    pub protocol: Option<u32>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A payload of any kind but telemetry (which goes to columns), read and checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Device health.
    Heartbeat(Heartbeat),
    /// An answer to a command.
    Response(Response),
    /// Connection state.
    Status(Status),
    /// A device's own alert.
    Alert(DeviceAlert),
    /// A device announces itself.
    Registration(Registration),
}

/// Why a payload is a dead letter: the reason, and the field at fault where there is one.
pub type Fault = (Reason, Option<String>);

/// Reads a payload of one of the five kinds.
///
/// # Errors
/// The reason and the field at fault; kinds that are not payloads of a device are `not_json`.
pub fn parse(kind: Kind, device_id: &str, bytes: &[u8]) -> Result<Payload, Fault> {
    let inner = text::trimmed(bytes);
    if inner.is_empty() {
        return Err((Reason::Empty, None));
    }
    if kind == Kind::Status
        && let Some(status) = plain_status(inner)
    {
        return Ok(Payload::Status(status));
    }
    let mut fields = fields(bytes)?;
    named_device(&fields, kind, device_id)?;
    let exact = |name: &str| digits(inner, name);
    match kind {
        Kind::Heartbeat => {
            fields::mend(&mut fields, fields::HEARTBEAT, exact);
            read::<Heartbeat>(fields).and_then(check_heartbeat).map(Payload::Heartbeat)
        }
        Kind::Resp => read(fields).map(Payload::Response),
        Kind::Status => read(fields).map(Payload::Status),
        Kind::Alerts => read(fields).map(Payload::Alert),
        Kind::Register => {
            fields::mend(&mut fields, fields::REGISTRATION, exact);
            read(fields).map(Payload::Registration)
        }
        Kind::Telemetry | Kind::Reject | Kind::Sent | Kind::Pulse => Err((Reason::NotJson, None)),
    }
}

/// The fields of a payload, whatever it is of: with what is blank around it passed over, and words
/// that JSON has not, as printf writes them, as null.
///
/// # Errors
/// The reason, and the place of the fault.
pub fn fields(bytes: &[u8]) -> Result<Map<String, Value>, Fault> {
    let inner = text::trimmed(bytes);
    let lead = bytes.len() - text::trimmed_start(bytes).len();
    let fault = |reason: Reason, at: usize| (reason, Some(text::place(bytes, lead + at)));
    let written =
        std::str::from_utf8(inner).map_err(|e| fault(Reason::NotUtf8, e.valid_up_to()))?;
    let error = match serde_json::from_str::<Map<String, Value>>(written) {
        Ok(fields) => return Ok(fields),
        Err(error) => error,
    };
    let mended = text::mended(written).map(|mended| serde_json::from_str(&mended.text));
    match mended {
        Some(Ok(mut fields)) => {
            without_words(&mut fields);
            Ok(fields)
        }
        _ => Err(fault(Reason::NotJson, text::offset(written, &error))),
    }
}

/// Takes words that stand in the place of values out of fields; those of the first level are kept
/// aside.
fn without_words(fields: &mut Map<String, Value>) {
    let mut words = Map::new();
    for (name, value) in fields.iter_mut() {
        if let Some(word) = value.as_str().and_then(|text| text.strip_prefix('\0')) {
            words.insert(name.clone(), word.into());
        }
        nulled(value);
    }
    if !words.is_empty() {
        fields.insert(ODD.to_owned(), Value::Object(words));
    }
}

fn nulled(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with('\0') => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(nulled),
        Value::Object(fields) => fields.values_mut().for_each(nulled),
        _ => {}
    }
}

/// The digits of a number as they were written: a float would lose some of an ICCID.
fn digits(bytes: &[u8], name: &str) -> Option<String> {
    let fields: HashMap<String, &RawValue> = serde_json::from_slice(bytes).ok()?;
    fields.get(name).map(|raw| raw.get().to_owned())
}

/// The whole number of a field that is not one of ours: in any form, as long as a float has it exactly.
#[must_use]
pub fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| i64::try_from(decimal::whole(&number.to_string())?).ok())
}

/// Whether a device's clock can be right: neither ahead of the arrival by more than the limit, nor
/// before 2020.
///
/// # Errors
/// The reason for the dead letter.
pub fn check_clock(ts: Micros, received_at: Micros, max_future: Micros) -> Result<(), Fault> {
    if ts < time::YEAR_2020 {
        Err((Reason::TsBefore2020, None))
    } else if ts > received_at.saturating_add(max_future) {
        Err((Reason::TsInFuture, None))
    } else {
        Ok(())
    }
}

/// The `device_id` of a registration, looked for before anything else is known about it.
#[must_use]
pub fn registering_device(bytes: &[u8]) -> Option<String> {
    let fields = fields(bytes).ok()?;
    let id = text::plain(fields.get("device_id")?.as_str()?)?;
    is_device_id(id).then(|| id.to_owned())
}

fn plain_status(bytes: &[u8]) -> Option<Status> {
    let status = if bytes.eq_ignore_ascii_case(b"online") {
        Connection::Online
    } else if bytes.eq_ignore_ascii_case(b"offline") {
        Connection::Offline
    } else {
        return None;
    };
    Some(Status { status, ts: None, reason: None, extra: Map::new() })
}

/// Whether the payload names the device of its topic, if any; padding around the name is not of it.
fn named_device(fields: &Map<String, Value>, kind: Kind, device_id: &str) -> Result<(), Fault> {
    match fields.get("device_id") {
        Some(Value::String(id)) if text::plain(id) == Some(device_id) => Ok(()),
        Some(Value::String(id)) => Err((Reason::IdMismatch, Some(id.chars().take(64).collect()))),
        Some(_) => Err((Reason::WrongType, Some("device_id".to_owned()))),
        None if kind == Kind::Register => Err((Reason::BadDeviceId, Some("device_id".to_owned()))),
        None => Ok(()),
    }
}

/// A heartbeat has a time, unless its device says that it has no clock.
fn check_heartbeat(heartbeat: Heartbeat) -> Result<Heartbeat, Fault> {
    let booted = heartbeat.boot.is_some() && heartbeat.uptime_ms.is_some();
    match heartbeat.ts {
        // A clock that was never set is none.
        Some(ts) if booted && time::is_unset(ts.0) => Err((Reason::ClockUnset, None)),
        Some(_) => Ok(heartbeat),
        None if booted => Err((Reason::ClockUnset, None)),
        None => Err((Reason::NoTs, None)),
    }
}

fn read<T: for<'de> Deserialize<'de>>(fields: Map<String, Value>) -> Result<T, Fault> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let said = error.inner().to_string();
        let path = error.path().to_string();
        let field = said
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split_once('`'))
            .map_or(path, |(field, _)| field.to_owned());
        match field.as_str() {
            "ts" if said.starts_with("missing") => (Reason::NoTs, Some(field)),
            "ts" if said.starts_with("no time") => (Reason::BadTs, Some(format!("ts: {said}"))),
            "." => (Reason::WrongType, None),
            _ => (Reason::WrongType, Some(field)),
        }
    })
}

#[cfg(test)]
mod tests;
