//! The parameters of each command, and their check before anything is sent.

use serde_json::{Map, Value};

use super::kind::CommandKind;
use crate::config::{MASK, Section, check_values};

/// A parameter of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name in `params`.
    pub name: &'static str,
    /// The values that it may have.
    pub shape: Shape,
    /// Whether it must be given.
    pub required: bool,
}

/// The values that a parameter may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A whole number within a range.
    Whole(i64, i64),
    /// A text whose number of characters is within a range.
    Text(usize, usize),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// `true`, as a confirmation.
    Yes,
    /// 16-bit register values, at least one and at most so many.
    Registers(usize),
    /// The name of a section of the configuration.
    Section,
    /// Values of the section.
    Values,
}

const fn must(name: &'static str, shape: Shape) -> Param {
    Param { name, shape, required: true }
}

const fn may(name: &'static str, shape: Shape) -> Param {
    Param { name, shape, required: false }
}

const DAY_S: i64 = 86_400;

impl CommandKind {
    /// The parameters of the command.
    #[must_use]
    pub const fn params(self) -> &'static [Param] {
        match self {
            Self::GetConfig => const { &[may("section", Shape::Section)] },
            Self::SetConfig => {
                const { &[must("section", Shape::Section), must("values", Shape::Values)] }
            }
            Self::FactoryReset => const { &[must("confirm", Shape::Yes)] },
            Self::WifiSet => {
                const { &[must("ssid", Shape::Text(1, 32)), may("password", Shape::Text(8, 63))] }
            }
            Self::TransportSet => const { &[must("mode", Shape::OneOf(&["wifi", "gsm", "auto"]))] },
            Self::OtaUpdate => {
                const {
                    &[
                        must("url", Shape::Text(8, 512)),
                        must("version", Shape::Text(1, 32)),
                        must("checksum", Shape::Text(32, 64)),
                    ]
                }
            }
            Self::ModbusRead => {
                const {
                    &[
                        must("address", Shape::Whole(0, 65_535)),
                        must("count", Shape::Whole(1, 125)),
                        may("function", Shape::Whole(1, 4)),
                    ]
                }
            }
            Self::ModbusWrite => {
                const {
                    &[
                        must("address", Shape::Whole(0, 65_535)),
                        must("values", Shape::Registers(123)),
                    ]
                }
            }
            Self::SetInterval => {
                const {
                    &[
                        may("telemetry_s", Shape::Whole(1, DAY_S)),
                        may("heartbeat_s", Shape::Whole(10, DAY_S)),
                    ]
                }
            }
            Self::LogTail => const { &[may("lines", Shape::Whole(1, 200))] },
            Self::Ping
            | Self::Reboot
            | Self::GetStatus
            | Self::WifiScan
            | Self::GsmInfo
            | Self::OtaRollback
            | Self::MeterInfo
            | Self::TelemetryNow
            | Self::SdStatus
            | Self::SdFlush => &[],
        }
    }
}

/// Checks the parameters of a command.
///
/// # Errors
/// The wrong field, and what is wrong with it.
pub fn check_params(
    command: CommandKind,
    params: &Map<String, Value>,
) -> Result<(), (String, String)> {
    let known = command.params();
    // Unknown parameters first: a misspelt name also misses a parameter, and is the better message.
    if let Some(stranger) = params.keys().find(|key| known.iter().all(|p| p.name != key.as_str())) {
        let names: Vec<&str> = known.iter().map(|p| p.name).collect();
        let takes = match names.is_empty() {
            true => "no parameters".to_owned(),
            false => names.join(", "),
        };
        return Err((format!("params.{stranger}"), format!("{command} takes {takes}")));
    }
    for param in known {
        let field = || format!("params.{}", param.name);
        match params.get(param.name) {
            None if param.required => return Err((field(), "is missing".to_owned())),
            None => {}
            Some(value) => {
                check_shape(param.shape, value).map_err(|message| (field(), message))?;
            }
        }
    }
    match command {
        CommandKind::SetInterval if params.is_empty() => {
            Err(("params".into(), "give telemetry_s, heartbeat_s or both".into()))
        }
        CommandKind::SetConfig => check_section(params),
        _ => Ok(()),
    }
}

fn check_section(params: &Map<String, Value>) -> Result<(), (String, String)> {
    let section = params.get("section").and_then(Value::as_str).and_then(Section::parse);
    let values = params.get("values").and_then(Value::as_object);
    match (section, values) {
        (Some(section), Some(values)) => check_values(section, values)
            .map_err(|(field, message)| (format!("params.values.{field}"), message)),
        _ => Ok(()),
    }
}

fn check_shape(shape: Shape, value: &Value) -> Result<(), String> {
    match shape {
        Shape::Whole(from, to) => match value.as_i64() {
            Some(n) if (from..=to).contains(&n) => Ok(()),
            _ => Err(format!("a whole number from {from} to {to}")),
        },
        Shape::Text(from, to) => match value.as_str() {
            // Somebody sends back a password as it was shown: the device would lose its network.
            Some(text) if text == MASK => Err("is the mask of a secret".to_owned()),
            Some(text)
                if (from..=to).contains(&text.chars().count())
                    && !text.chars().any(char::is_control) =>
            {
                Ok(())
            }
            _ => Err(format!("a text of {from} to {to} characters")),
        },
        Shape::OneOf(words) => match value.as_str() {
            Some(text) if words.contains(&text) => Ok(()),
            _ => Err(format!("one of {}", words.join(", "))),
        },
        Shape::Yes => match value {
            Value::Bool(true) => Ok(()),
            _ => Err("true, and nothing else".to_owned()),
        },
        Shape::Registers(most) => {
            let word = |v: &Value| v.as_u64().is_some_and(|n| n <= 65_535);
            match value.as_array() {
                Some(list) if (1..=most).contains(&list.len()) && list.iter().all(word) => Ok(()),
                _ => Err(format!("1 to {most} whole numbers from 0 to 65535")),
            }
        }
        Shape::Section => match value.as_str().and_then(Section::parse) {
            Some(_) => Ok(()),
            None => Err(format!("one of {}", Section::names())),
        },
        Shape::Values => match value.as_object() {
            Some(values) if !values.is_empty() => Ok(()),
            _ => Err("an object with at least one value".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests;
