//! A row of another system's table as an item of telemetry. Pure.

use acuvim_wire::{
    device::is_device_id,
    time::{BadTime, Micros, parse_written, to_datetime},
};
use chrono::{MappedLocalTime, NaiveDateTime, SecondsFormat, TimeZone as _};
use chrono_tz::Tz;
use serde_json::{Map, Value};

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The column of the device's id.
    pub device_id: String,
    /// The column of the time.
    pub ts: String,
    /// The column that has readings as one JSON object, if there is such a column.
    pub data: String,
    /// The zone of times that name none; without it such times are refused.
    pub zone: Option<Tz>,
}

impl Default for Shape {
    fn default() -> Self {
        let name = str::to_owned;
        Self { device_id: name("device_id"), ts: name("ts"), data: name("data"), zone: None }
    }
}

/// A row as an item of telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub device_id: String,
    /// One item of a batch, as a device would send it.
    pub json: String,
}

impl Shape {
    /// The item of a row, or its fault. Its readings are checked by the same code as those of
    /// devices.
    pub fn item(&self, mut row: Map<String, Value>) -> Result<Item, String> {
        let device_id = match row.remove(&self.device_id) {
            Some(Value::String(id)) => id,
            Some(Value::Number(id)) => id.to_string(),
            _ => return Err(format!("no {}", self.device_id)),
        };
        if !is_device_id(&device_id) {
            return Err(format!("{device_id:?} is no device id: 1 to 32 of A-Z a-z 0-9 _ -"));
        }
        let ts = match row.remove(&self.ts) {
            Some(Value::String(text)) => Value::from(self.moment(&text)?),
            Some(number @ Value::Number(_)) => number,
            _ => return Err(format!("no {}", self.ts)),
        };
        match row.remove(&self.data) {
            None | Some(Value::Null) => {}
            Some(Value::Object(data)) => row.extend(data),
            Some(Value::String(text)) => match serde_json::from_str(&text) {
                Ok(Value::Object(data)) => row.extend(data),
                _ => return Err(format!("{} is no JSON object", self.data)),
            },
            Some(_) => return Err(format!("{} is no JSON object", self.data)),
        }
        // Devices leave out what they have not measured; a null would be a reading of the wrong type.
        row.retain(|_, value| !value.is_null());
        // Last, so that a `ts` within the JSON column does not replace the time of the row.
        row.insert("ts".to_owned(), ts);
        row.entry("source").or_insert_with(|| Value::from("import"));
        Ok(Item { device_id, json: Value::Object(row).to_string() })
    }

    /// A time as devices or databases write it: with a space between day and time, a short offset, or none if
    /// the zone is known.
    fn moment(&self, text: &str) -> Result<String, String> {
        let micros = match parse_written(text, None) {
            Ok(micros) => micros,
            Err(BadTime::NoOffset(_)) => self.naive(&text.trim().replacen(' ', "T", 1), text)?,
            Err(fault) => return Err(fault.to_string()),
        };
        to_datetime(micros)
            .map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true))
            .ok_or_else(|| format!("{text:?} is no time"))
    }

    fn naive(&self, written: &str, text: &str) -> Result<Micros, String> {
        let parsed = NaiveDateTime::parse_from_str(written, "%Y-%m-%dT%H:%M:%S%.f");
        let local = parsed.map_err(|_| format!("{text:?} is no time"))?;
        let zone = self.zone.ok_or_else(|| {
            format!("{text:?} names no zone; say whose times they are with time_zone")
        })?;
        match zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) => Ok(at.timestamp_micros()),
            // Taking either for both would make one reading of two.
            MappedLocalTime::Ambiguous(..) => Err(format!(
                "{text:?} came twice in {zone}, when clocks were set back: give it with its offset"
            )),
            MappedLocalTime::None => {
                Err(format!("{text:?} does not exist in {zone}: clocks were set forward"))
            }
        }
    }
}

/// A cell of CSV: null if it is empty, else a number or a text.
pub(super) fn cell(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    let looks_like_one = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let number = || serde_json::from_str::<serde_json::Number>(text).ok();
    match looks_like_one.then(number).flatten() {
        Some(number) => Value::Number(number),
        None => Value::from(text),
    }
}

#[cfg(test)]
mod tests;
