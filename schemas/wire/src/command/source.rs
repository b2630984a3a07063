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
    // Also `SET_CONFIG` and `OTA`: a raw command goes out as it is, and firmware may ignore case.
    if plain != "setconfig" {
        return None;
    }
    let section = params.get("section").and_then(Value::as_str).unwrap_or_default();
    let is_ota = section.trim().eq_ignore_ascii_case(Section::Ota.as_str());
    in_value("params.values", "values", params.get("values")?, is_ota)
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
mod tests;
