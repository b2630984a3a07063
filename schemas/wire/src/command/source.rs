//! Finds commands that would make a device download firmware from an address of the caller's choice:
//! firmware may only come from the registry.

use serde_json::{Map, Value};

use super::kind::CommandKind;
use crate::config::Section;

/// The parameter with an address for firmware, now or later; none if there is none. Unknown command
/// names are compared loosely, because a device may do so as well.
#[must_use]
pub fn firmware_source(command: &str, params: &Map<String, Value>) -> Option<String> {
    let plain: String = command.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_lowercase();
    let is_ours = CommandKind::parse(command).is_some_and(|kind| kind != CommandKind::OtaUpdate);
    let is_update = ["ota", "fw"].iter().any(|word| plain.starts_with(word));
    if !is_ours && (is_update || plain.contains("firmware")) {
        return Some("params.url".to_owned());
    }
    let kind = CommandKind::parse(command)?;
    if kind != CommandKind::SetConfig {
        return None;
    }
    let section = params.get("section").and_then(Value::as_str).and_then(Section::parse);
    let values = params.get("values").and_then(Value::as_object)?;
    named("params.values", values, section == Some(Section::Ota))
}

/// The first address for firmware among the values: any address in the section `ota`, elsewhere one
/// whose name mentions firmware.
fn named(path: &str, values: &Map<String, Value>, is_about_firmware: bool) -> Option<String> {
    values.iter().find_map(|(name, value)| {
        let (path, name) = (format!("{path}.{name}"), name.to_ascii_lowercase());
        let is_about_firmware =
            is_about_firmware || name.contains("ota") || name.contains("firmware");
        in_value(&path, &name, value, is_about_firmware)
    })
}

fn in_value(path: &str, name: &str, value: &Value, is_about_firmware: bool) -> Option<String> {
    match value {
        Value::String(text) => {
            // An address without a scheme has a dot or a slash, such as `h.example/fw.bin`.
            let is_address =
                text.contains(['/', '.']) || ADDRESSES.iter().any(|a| name.contains(a));
            (is_about_firmware && is_address).then(|| path.to_owned())
        }
        Value::Object(values) => named(path, values, is_about_firmware),
        Value::Array(items) => {
            items.iter().find_map(|item| in_value(path, name, item, is_about_firmware))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Parts of the names of values that are addresses.
const ADDRESSES: [&str; 5] = ["url", "uri", "host", "server", "address"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(command: &str, params: Value) -> Option<String> {
        let Value::Object(params) = params else { panic!("an object") };
        firmware_source(command, &params)
    }

    #[test]
    fn every_way_to_name_an_address_for_firmware_is_found() {
        let config = |section: &str, values: Value| json!({"section": section, "values": values});
        for (command, params, field) in [
            ("ota_update", json!({"url": "http://h/x"}), "params.url"),
            ("OTA-Update", json!({}), "params.url"),
            ("firmware_update", json!({}), "params.url"),
            (
                "set_config",
                config("ota", json!({"mirror": "h.example/fw.bin"})),
                "params.values.mirror",
            ),
            ("set_config", config("ota", json!({"url": "h/x"})), "params.values.url"),
            ("set_config", config("ota", json!({"at": "http://h"})), "params.values.at"),
            ("set_config", config("ota", json!({"a": {"host": "h"}})), "params.values.a.host"),
            ("set_config", config("ota", json!({"from": ["http://h"]})), "params.values.from"),
            (
                "set_config",
                config("transport", json!({"firmware_url": "h/x"})),
                "params.values.firmware_url",
            ),
        ] {
            let found = source(command, params.clone());
            assert_eq!(found.as_deref(), Some(field), "{command} {params}");
        }
        for (command, params) in [
            ("ping", json!({})),
            ("ota_rollback", json!({})),
            ("set_config", config("ota", json!({"auto": true, "hour": 3, "channel": "stable"}))),
            ("set_config", config("mqtt", json!({"url": "mqtt://h"}))),
            ("set_config", config("telemetry", json!({"interval_s": 10}))),
        ] {
            assert_eq!(source(command, params.clone()), None, "{command} {params}");
        }
    }
}
