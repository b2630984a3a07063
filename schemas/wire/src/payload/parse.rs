//! Parses payloads and checks them field by field.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    fields::{HEARTBEAT, ODD, REGISTRATION, mend},
    types::{Connection, DeviceAlert, Heartbeat, Registration, Response, Status},
};
use crate::{
    dead_letter::Reason,
    device::is_device_id,
    kind::Kind,
    text,
    time::{self, Micros},
};

/// A parsed payload of any kind but telemetry, which is decoded to columns instead.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// A sign of life, with a time or without one.
    Heartbeat(Heartbeat),
    /// A response to a command.
    Response(Response),
    /// A connection state or a last will.
    Status(Status),
    /// An alert of the device.
    Alert(DeviceAlert),
    /// What a device is and can do.
    Registration(Registration),
}

/// Why a payload is a dead letter: the reason, and the wrong field if there is one.
pub type Fault = (Reason, Option<String>);

/// Parses a payload of one of these five kinds.
///
/// # Errors
/// The reason and the wrong field; `not_json` for kinds that have no such payload.
pub fn parse(kind: Kind, device_id: &str, bytes: &[u8]) -> Result<Payload, Fault> {
    // Padding alone is empty too: firmware sends its whole buffer.
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
    // Before the other fields: those of another device must not be reported as this one's faults.
    named_device(&fields, kind, device_id)?;
    let exact = |name: &str| digits(inner, name);
    match kind {
        Kind::Heartbeat => {
            mend(&mut fields, HEARTBEAT, exact);
            read::<Heartbeat>(fields).and_then(check_heartbeat).map(Payload::Heartbeat)
        }
        Kind::Resp => read(fields).map(Payload::Response),
        Kind::Status => read(fields).map(Payload::Status),
        Kind::Alerts => read(fields).map(Payload::Alert),
        Kind::Register => {
            mend(&mut fields, REGISTRATION, exact);
            read(fields).map(Payload::Registration)
        }
        Kind::Telemetry | Kind::Reject | Kind::Sent | Kind::Pulse => Err((Reason::NotJson, None)),
    }
}

/// The fields of a payload of any kind. Padding around it is ignored, and printf's words for numbers
/// that are not valid JSON become null.
///
/// # Errors
/// The reason, and the position of the syntax error.
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

/// Replaces the words quoted by [`text::mended`] by null; those of the first level are kept in [`ODD`].
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
    let of = |written: &str| {
        let fields: HashMap<String, &RawValue> = serde_json::from_str(written).ok()?;
        fields.get(name).map(|raw| raw.get().to_owned())
    };
    let written = std::str::from_utf8(bytes).ok()?;
    // A nan in another field makes the payload unreadable as JSON, but leaves these digits as they are.
    of(written).or_else(|| of(&text::mended(written)?.text))
}

/// Checks that a time of a device is plausible: not ahead of the arrival by more than the limit, and
/// not before 2020.
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

/// The `device_id` of a registration, without checking its other fields.
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

/// Checks that the payload has the device id of its topic, or none. Padding around the id is ignored.
fn named_device(fields: &Map<String, Value>, kind: Kind, device_id: &str) -> Result<(), Fault> {
    match fields.get("device_id") {
        Some(Value::String(id)) if text::plain(id) == Some(device_id) => Ok(()),
        Some(Value::String(id)) => Err((Reason::IdMismatch, Some(id.chars().take(64).collect()))),
        Some(_) => Err((Reason::WrongType, Some("device_id".to_owned()))),
        None if kind == Kind::Register => Err((Reason::BadDeviceId, Some("device_id".to_owned()))),
        None => Ok(()),
    }
}

/// A heartbeat needs a time, unless the device shows by `boot` and `uptime_ms` that it has no clock yet.
fn check_heartbeat(heartbeat: Heartbeat) -> Result<Heartbeat, Fault> {
    let booted = heartbeat.boot.is_some() && heartbeat.uptime_ms.is_some();
    match heartbeat.ts {
        // A clock that was never set does not count.
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
