//! The other payload kinds, as PROTOCOL.md gives them, checked field by field.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    dead_letter::Reason,
    device::is_device_id,
    kind::Kind,
    time::{self, Micros},
};

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
            Written::Text(text) => time::parse_rfc3339(&text),
            Written::Number(number) => time::from_unix_number(number),
        }
        .map(Self)
        .ok_or_else(|| de::Error::custom("not a time"))
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
        let whole = |key: &str| self.extra.get(key).and_then(Value::as_i64);
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
    let text = std::str::from_utf8(bytes).map_err(|_| (Reason::NotUtf8, None))?;
    if text.trim().is_empty() {
        return Err((Reason::Empty, None));
    }
    if kind == Kind::Status
        && let Some(status) = plain_status(text)
    {
        return Ok(Payload::Status(status));
    }
    if !text.trim_start().starts_with('{') {
        return Err((Reason::NotJson, None));
    }
    named_device(text, kind, device_id)?;
    match kind {
        Kind::Heartbeat => {
            read::<Heartbeat>(text).and_then(check_heartbeat).map(Payload::Heartbeat)
        }
        Kind::Resp => read(text).map(Payload::Response),
        Kind::Status => read(text).map(Payload::Status),
        Kind::Alerts => read(text).map(Payload::Alert),
        Kind::Register => read(text).and_then(check_registration).map(Payload::Registration),
        Kind::Telemetry | Kind::Reject | Kind::Sent | Kind::Pulse => Err((Reason::NotJson, None)),
    }
}

/// The form of what a device says of itself. A MAC in any of its spellings becomes one.
fn check_registration(mut registration: Registration) -> Result<Registration, Fault> {
    if let Some(mac) = &registration.mac_address {
        registration.mac_address = Some(spelled_mac(mac).ok_or_else(|| bad_field("mac_address"))?);
    }
    let digits = |text: &str, from: usize, to: usize| {
        (from..=to).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let r = &registration;
    let fits = |text: &Option<String>, form: &dyn Fn(&str) -> bool| {
        text.as_deref().is_none_or(|text| text.is_empty() || form(text))
    };
    // An IMEI has 14 digits and a check digit, or with its software version 16 (3GPP TS 23.003); an
    // ICCID 18 to 20, on old cards 22 (ITU-T E.118, with a filler in hex on some).
    let iccid = |text: &str| digits(text.trim_end_matches(['F', 'f']), 18, 22);
    let fields = [
        ("imei", fits(&r.imei, &|t| digits(t, 14, 16))),
        ("iccid", fits(&r.iccid, &iccid)),
        ("hardware", fits(&r.hardware, &is_short)),
        ("firmware_version", fits(&r.firmware_version, &is_short)),
        ("meter_serial", fits(&r.meter_serial, &is_short)),
        ("capabilities", r.capabilities.iter().flatten().all(|c| is_short(c))),
        ("capabilities", r.capabilities.as_ref().is_none_or(|c| c.len() <= 32)),
    ];
    match fields.into_iter().find(|(_, fits)| !fits) {
        Some((field, _)) => Err(bad_field(field)),
        None => Ok(registration),
    }
}

/// Whether a text is fit for a column that is shown, searched and sorted by.
fn is_short(text: &str) -> bool {
    text.chars().count() <= 64 && !text.chars().any(char::is_control)
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

fn bad_field(field: &str) -> Fault {
    (Reason::WrongType, Some(field.to_owned()))
}

/// `AA:BB:CC:DD:EE:FF` from twelve hex digits with colons, hyphens or nothing between.
fn spelled_mac(text: &str) -> Option<String> {
    let hex: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect();
    if hex.len() != 12 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let pairs: Vec<&str> = (0..6).filter_map(|i| hex.get(2 * i..2 * i + 2)).collect();
    Some(pairs.join(":").to_uppercase())
}

/// The `device_id` of a registration, looked for before anything else is known about it.
#[must_use]
pub fn registering_device(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Who {
        device_id: String,
    }
    let who: Who = serde_json::from_slice(bytes).ok()?;
    is_device_id(&who.device_id).then_some(who.device_id)
}

fn plain_status(text: &str) -> Option<Status> {
    let word = text.trim();
    let status = if word.eq_ignore_ascii_case("online") {
        Connection::Online
    } else if word.eq_ignore_ascii_case("offline") {
        Connection::Offline
    } else {
        return None;
    };
    Some(Status { status, ts: None, reason: None, extra: Map::new() })
}

fn named_device(text: &str, kind: Kind, device_id: &str) -> Result<(), Fault> {
    #[derive(Deserialize)]
    struct Named {
        device_id: Option<Value>,
    }
    let named: Named = serde_json::from_str(text).map_err(|_| (Reason::NotJson, None))?;
    match named.device_id {
        Some(Value::String(id)) if id == device_id => Ok(()),
        Some(Value::String(id)) => Err((Reason::IdMismatch, Some(id.chars().take(64).collect()))),
        Some(_) => Err((Reason::WrongType, Some("device_id".to_owned()))),
        None if kind == Kind::Register => Err((Reason::BadDeviceId, Some("device_id".to_owned()))),
        None => Ok(()),
    }
}

fn check_heartbeat(heartbeat: Heartbeat) -> Result<Heartbeat, Fault> {
    let texts = [
        ("firmware_version", &heartbeat.firmware_version),
        ("hardware", &heartbeat.hardware),
        ("meter_serial", &heartbeat.meter_serial),
    ];
    let long = texts.into_iter().find(|(_, text)| text.as_deref().is_some_and(|t| !is_short(t)));
    if let Some((field, _)) = long {
        return Err(bad_field(field));
    }
    if heartbeat.ts.is_some() {
        Ok(heartbeat)
    } else if heartbeat.boot.is_some() && heartbeat.uptime_ms.is_some() {
        Err((Reason::ClockUnset, None))
    } else {
        Err((Reason::NoTs, None))
    }
}

fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let said = error.inner().to_string();
        let path = error.path().to_string();
        let field = said
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split_once('`'))
            .map_or(path, |(field, _)| field.to_owned());
        let reason = match (error.inner().classify(), field.as_str()) {
            (serde_json::error::Category::Data, "ts") if said.contains("missing") => Reason::NoTs,
            (serde_json::error::Category::Data, "ts") if said.contains("not a time") => {
                Reason::BadTs
            }
            (serde_json::error::Category::Data, _) => Reason::WrongType,
            _ => Reason::NotJson,
        };
        (reason, (field != "." && reason != Reason::NotJson).then_some(field))
    })
}

#[cfg(test)]
mod tests;
