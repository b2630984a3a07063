//! The parameters of each command, and their check before anything is sent.

use serde_json::{Map, Value};

use super::kind::CommandKind;
use crate::config::{MASK, Section, check_values};

/// A parameter of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name.
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(command: &str, params: Value) -> Result<(), (String, String)> {
        let Value::Object(params) = params else { panic!("an object") };
        check_params(CommandKind::parse(command).expect("a command"), &params)
    }

    #[test]
    fn what_each_command_takes() {
        for (command, params) in [
            ("ping", json!({})),
            ("set_config", json!({"section": "telemetry", "values": {"interval_s": 10}})),
            ("get_config", json!({})),
            ("get_config", json!({"section": "wifi"})),
            ("factory_reset", json!({"confirm": true})),
            ("wifi_set", json!({"ssid": "plant", "password": "12345678"})),
            ("wifi_set", json!({"ssid": "open"})),
            ("transport_set", json!({"mode": "gsm"})),
            (
                "ota_update",
                json!({"url": "http://h/x", "version": "1", "checksum": "a".repeat(64)}),
            ),
            ("modbus_read", json!({"address": 0x4000, "count": 2})),
            ("modbus_write", json!({"address": 1, "values": [0, 65_535]})),
            ("set_interval", json!({"heartbeat_s": 60})),
            ("log_tail", json!({"lines": 200})),
        ] {
            assert_eq!(check(command, params.clone()), Ok(()), "{command} {params}");
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (command, params, field) in [
            ("ping", json!({"x": 1}), "params.x"),
            ("factory_reset", json!({}), "params.confirm"),
            ("factory_reset", json!({"confirm": false}), "params.confirm"),
            ("wifi_set", json!({"ssid": ""}), "params.ssid"),
            ("wifi_set", json!({"ssid": "a", "password": "short"}), "params.password"),
            ("transport_set", json!({"mode": "carrier pigeon"}), "params.mode"),
            ("modbus_read", json!({"address": 65_536, "count": 1}), "params.address"),
            ("modbus_read", json!({"address": 1.5, "count": 1}), "params.address"),
            ("modbus_write", json!({"address": 1, "values": []}), "params.values"),
            ("modbus_write", json!({"address": 1, "values": [70_000]}), "params.values"),
            ("set_interval", json!({}), "params"),
            ("set_config", json!({"section": "nope", "values": {"a": 1}}), "params.section"),
            ("set_config", json!({"section": "wifi", "values": {}}), "params.values"),
            (
                "set_config",
                json!({"section": "telemetry", "values": {"interval_s": 0}}),
                "params.values.interval_s",
            ),
        ] {
            let fault = check(command, params.clone()).expect_err("a fault");
            assert_eq!(fault.0, field, "{command} {params}: {}", fault.1);
        }
    }

    proptest! {
        #[test]
        fn any_params_are_judged(key in ".{0,12}", number in any::<f64>(), text in ".{0,40}") {
            for command in CommandKind::ALL {
                for value in [json!(number), json!(text), json!([text]), json!({&text: number})] {
                    let mut params = Map::new();
                    params.insert(key.clone(), value.clone());
                    for param in command.params() {
                        params.insert(param.name.to_owned(), value.clone());
                    }
                    let _ = check_params(command, &params);
                }
            }
        }
    }
}
