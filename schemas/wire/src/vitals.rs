//! Health values of a heartbeat, read from wherever firmware versions put them in the payload.

use serde_json::{Map, Value};

use crate::{
    payload::{Heartbeat, whole},
    text::plain,
};

/// Health values of a heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// The reason for the last restart, by name.
    pub reset_reason: Option<String>,
    /// Free heap in bytes.
    pub free_heap: Option<i64>,
    /// The least free heap since the boot, in bytes.
    pub min_free_heap: Option<i64>,
    /// Successful Modbus requests since the boot.
    pub modbus_ok: Option<i64>,
    /// Failed Modbus requests since the boot.
    pub modbus_errors: Option<i64>,
    /// Whether there is an SD card.
    pub sd_present: Option<bool>,
    /// Free space on the SD card, in MB.
    pub sd_free_mb: Option<i64>,
    /// Lines on the SD card that wait to be sent.
    pub sd_pending: Option<i64>,
}

/// The names of ESP-IDF's reset reasons (`esp_reset_reason_t`).
const RESETS: [(i64, &str); 8] = [
    (1, "poweron"),
    (3, "software"),
    (4, "panic"),
    (5, "int_wdt"),
    (6, "task_wdt"),
    (7, "wdt"),
    (8, "deepsleep"),
    (9, "brownout"),
];

impl Vitals {
    /// Reads the values of a heartbeat.
    #[must_use]
    pub fn of(heartbeat: &Heartbeat) -> Self {
        let extra = &heartbeat.extra;
        let inside = |object: &str, key: &str| extra.get(object).and_then(|o| o.get(key)).cloned();
        let whole = |value: Option<Value>| value.as_ref().and_then(whole);
        Self {
            reset_reason: reset_reason(extra),
            free_heap: whole(extra.get("free_heap").cloned()),
            min_free_heap: whole(extra.get("min_free_heap").cloned()),
            modbus_ok: whole(inside("modbus", "ok")),
            modbus_errors: whole(inside("modbus", "errors")),
            sd_present: inside("sd", "present").as_ref().and_then(Value::as_bool),
            sd_free_mb: whole(inside("sd", "free_mb")),
            sd_pending: whole(inside("sd", "pending")),
        }
    }
}

fn reset_reason(extra: &Map<String, Value>) -> Option<String> {
    match extra.get("reset_reason")? {
        Value::String(name) => {
            // Short, because alerts and the device list show it.
            Some(plain(name)?.chars().take(32).collect::<String>().to_lowercase())
        }
        number => {
            let number = whole(number)?;
            let known = RESETS.iter().find(|(n, _)| *n == number);
            Some(known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
