//! The responses of a simulated device to commands. It does nothing else with them.

use std::collections::HashSet;

use serde_json::{Value, json};

/// The number of request ids that a device remembers to recognise repeated commands.
const REMEMBERED: usize = 256;

/// The command handling of one device.
#[derive(Debug, Default)]
pub struct Answers {
    seen: HashSet<String>,
}

impl Answers {
    /// The responses to a command, in order; none if it was seen before or can't be parsed.
    pub fn to(&mut self, payload: &[u8]) -> Vec<String> {
        let Ok(command) = serde_json::from_slice::<Value>(payload) else { return Vec::new() };
        let Some(id) = command.get("request_id").and_then(Value::as_str) else { return Vec::new() };
        // As small firmware does: commands that are repeated come soon after the first, not days later.
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        if !self.seen.insert(id.to_owned()) {
            return Vec::new();
        }
        let name = command.get("command").and_then(Value::as_str).unwrap_or_default();
        let params = command.get("params").cloned().unwrap_or_default();
        let answer = |status: &str, data: Value| {
            json!({"request_id": id, "command": name, "status": status, "data": data}).to_string()
        };
        match data(name, &params) {
            Some(data) if is_slow(name) => {
                vec![answer("ack", json!({})), answer("success", data)]
            }
            Some(data) => vec![answer("success", data)],
            None => {
                let error = format!("unknown command {name}");
                vec![
                    json!({"request_id": id, "command": name, "status": "error", "error": error})
                        .to_string(),
                ]
            }
        }
    }
}

/// Whether a device sends `ack` before it has the result.
fn is_slow(command: &str) -> bool {
    matches!(command, "wifi_scan" | "ota_update" | "sd_flush" | "reboot")
}

fn data(command: &str, params: &Value) -> Option<Value> {
    Some(match command {
        "wifi_scan" => json!({"networks": [
            {"ssid": "plant-north", "rssi": -48, "secure": true},
            {"ssid": "plant-guest", "rssi": -71, "secure": false},
        ]}),
        "get_status" => json!({"uptime_ms": 86_400_000, "free_heap": 142_000}),
        "get_config" => json!({"telemetry": {"interval_s": 10}, "heartbeat": {"interval_s": 60}}),
        "gsm_info" => json!({"operator": "simulated", "csq": 18}),
        "modbus_read" => {
            let count = params.get("count").and_then(Value::as_u64).unwrap_or(1).min(125);
            json!({"values": (0..count).collect::<Vec<_>>()})
        }
        "meter_info" => json!({"model": "Acuvim II", "serial": "AH1234567"}),
        "sd_status" => json!({"present": true, "free_mb": 7300, "pending": 0}),
        "log_tail" => json!({"lines": ["boot", "wifi connected", "mqtt connected"]}),
        "ping" | "reboot" | "set_config" | "factory_reset" | "wifi_set" | "transport_set"
        | "ota_update" | "ota_rollback" | "modbus_write" | "telemetry_now" | "set_interval"
        | "sd_flush" => json!({}),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
