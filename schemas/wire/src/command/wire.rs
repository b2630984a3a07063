//! A command on its way to the device: in the topic `acuvim.commands` of the log, and as an MQTT packet.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::time::{self, Micros};

/// A command as ingest reads it from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The id of the command.
    pub request_id: Uuid,
    /// The device that it is for.
    pub device_id: String,
    /// The payload of the MQTT packet.
    pub payload: Bytes,
    /// It must not be sent after this time.
    pub expires_at: Micros,
    /// The number of the attempt to deliver it, for reports.
    pub attempt: i64,
    /// Its number in the outbox. Readers skip numbers that are not above the highest they have seen.
    pub outbox_seq: i64,
}

impl Command {
    /// The payload of the MQTT packet, as short as possible because some devices take only small packets.
    #[must_use]
    pub fn payload(
        request_id: Uuid,
        command: &str,
        params: &Map<String, Value>,
        expires_at: Micros,
    ) -> String {
        json!({
            "request_id": request_id,
            "command": command,
            "params": params,
            // Rounded down: a command expires early rather than running late.
            "expires_at": expires_at.div_euclid(time::SECOND),
        })
        .to_string()
    }
}

/// The report of ingest on a command, in the uplink with the kind `sent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The id of the command.
    pub request_id: Uuid,
    /// The number of the attempt.
    pub attempt: i64,
    /// Whether the command reached a subscriber.
    pub outcome: Outcome,
}

/// The result of an attempt to deliver a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The device has acknowledged it, or an external broker has taken it for a subscriber.
    Sent,
    /// There is no subscriber: it has certainly not reached the device.
    NoSubscriber,
}

/// The size of the MQTT 5 PUBLISH packet (QoS 1, with message expiry) for a payload, to compare it with
/// the limit of a device. In 3.1.1, without the expiry, it is six bytes less.
///
/// Source: MQTT 5.0, sections 2.1 and 3.3.
#[must_use]
pub fn packet_bytes(topic: &str, payload: &str) -> usize {
    let remaining = 2 + topic.len() + 2 + 6 + payload.len();
    let length_bytes = match remaining {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    };
    1 + length_bytes + remaining
}

#[cfg(test)]
mod tests;
