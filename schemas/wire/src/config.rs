//! The configuration of a device: its sections, the check of values, and the masking of secrets.

use std::fmt;

use serde_json::{Map, Value};

/// Replaces a secret wherever configuration is read.
pub const MASK: &str = "********";

/// Keys whose values are secrets.
const SECRETS: [&str; 3] = ["password", "pass", "pin"];

/// Limits of a section: the number of values, their nesting, and the length of keys and texts.
// A section is one row of the database and one command, which a small device must be able to hold.
const MAX_VALUES: usize = 64;
const MAX_DEPTH: usize = 4;
const MAX_KEY: usize = 64;
const MAX_TEXT: usize = 512;

/// A section of a device's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// The Wi-Fi network and its password.
    Wifi,
    /// The modem and the SIM, with its PIN.
    Gsm,
    /// The broker and the credentials for it.
    Mqtt,
    /// The serial bus that the meter is on.
    Modbus,
    /// The meter: nominal values, ratios of the transformers, wiring.
    Meter,
    /// Which readings are sent, and how often.
    Telemetry,
    /// The interval of heartbeats.
    Heartbeat,
    /// The alerts that the device raises.
    Alerts,
    /// The choice between Wi-Fi and GSM.
    Transport,
    /// What is kept on the SD card.
    Sd,
    /// How firmware updates are fetched.
    Ota,
    /// How the clock is set.
    Time,
}

impl Section {
    /// Every section, in the order of error messages.
    pub const ALL: [Self; 12] = [
        Self::Wifi,
        Self::Gsm,
        Self::Mqtt,
        Self::Modbus,
        Self::Meter,
        Self::Telemetry,
        Self::Heartbeat,
        Self::Alerts,
        Self::Transport,
        Self::Sd,
        Self::Ota,
        Self::Time,
    ];

    /// The name on the wire and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wifi => "wifi",
            Self::Gsm => "gsm",
            Self::Mqtt => "mqtt",
            Self::Modbus => "modbus",
            Self::Meter => "meter",
            Self::Telemetry => "telemetry",
            Self::Heartbeat => "heartbeat",
            Self::Alerts => "alerts",
            Self::Transport => "transport",
            Self::Sd => "sd",
            Self::Ota => "ota",
            Self::Time => "time",
        }
    }

    /// The section of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// All names, for an error message.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// The values of this section that must be numbers within a range.
    const fn ranges(self) -> &'static [(&'static str, f64, f64)] {
        match self {
            Self::Meter => &[
                ("nominal_voltage_v", 10.0, 1_000_000.0),
                ("nominal_frequency_hz", 40.0, 70.0),
                ("pt_ratio", 0.001, 1_000_000.0),
                ("ct_ratio", 0.001, 1_000_000.0),
            ],
            Self::Telemetry => &[("interval_s", 1.0, 86_400.0)],
            Self::Heartbeat => &[("interval_s", 10.0, 86_400.0)],
            _ => &[],
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Checks values that are to be sent to a device.
///
/// # Errors
/// The wrong field, and what is wrong with it.
pub fn check_values(section: Section, values: &Map<String, Value>) -> Result<(), (String, String)> {
    if values.is_empty() || values.len() > MAX_VALUES {
        return Err((String::new(), format!("1 to {MAX_VALUES} values")));
    }
    for (key, value) in values {
        let fault = |message: String| (key.clone(), message);
        check_key(key).map_err(fault)?;
        check_value(value, MAX_DEPTH).map_err(fault)?;
        if has_mask(key, value) {
            return Err(fault("is the mask of a secret: leave it out to keep it".to_owned()));
        }
        if let Some((_, from, to)) = section.ranges().iter().find(|(name, ..)| name == key)
            && !value.as_f64().is_some_and(|n| (*from..=*to).contains(&n))
        {
            return Err(fault(format!("a number from {from} to {to}")));
        }
    }
    Ok(())
}

fn check_value(value: &Value, depth: usize) -> Result<(), String> {
    match value {
        _ if depth == 0 => Err(format!("nested deeper than {MAX_DEPTH} levels")),
        // PostgreSQL stores no NUL in JSON, neither in texts nor in keys.
        Value::String(text) if text.chars().count() > MAX_TEXT || text.contains('\0') => {
            Err(format!("a text has at most {MAX_TEXT} characters and no NUL"))
        }
        Value::Array(list) => list.iter().try_for_each(|v| check_value(v, depth - 1)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            check_key(key)?;
            check_value(value, depth - 1)
        }),
        _ => Ok(()),
    }
}

fn check_key(key: &str) -> Result<(), String> {
    match (1..=MAX_KEY).contains(&key.chars().count()) && !key.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(format!("a key has 1 to {MAX_KEY} characters and no control characters")),
    }
}

/// Whether a secret is given as its mask, at any depth: somebody edits configuration that was read masked.
fn has_mask(key: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => is_secret(key) && text == MASK,
        Value::Array(list) => list.iter().any(|value| has_mask(key, value)),
        Value::Object(map) => map.iter().any(|(key, value)| has_mask(key, value)),
        _ => false,
    }
}

fn is_secret(key: &str) -> bool {
    SECRETS.iter().any(|secret| key.eq_ignore_ascii_case(secret))
}

/// Replaces every secret by the mask.
pub fn mask(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if is_secret(key) && !value.is_null() {
                    *value = MASK.into();
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(mask),
        // The download token in the URL of a firmware image.
        Value::String(text) => {
            if text.starts_with("http")
                && let Some((url, _)) = text.split_once("?t=")
            {
                *text = format!("{url}?t={MASK}");
            }
        }
        _ => {}
    }
}

/// The value with its secrets masked.
#[must_use]
pub fn masked(mut value: Value) -> Value {
    mask(&mut value);
    value
}

#[cfg(test)]
mod tests;
