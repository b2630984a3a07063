//! A command on its way: as a record of the log's topic `acuvim.commands`, and as an MQTT packet.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    record::{BadHeader, FORMAT},
    time::{self, Micros},
};

/// A command as `ingest` gets it: what the device is to be sent, until when, and how a repeated
/// record is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Which one.
    pub request_id: Uuid,
    /// For whom.
    pub device_id: String,
    /// The payload of the MQTT packet.
    pub payload: Bytes,
    /// From then on it may not be sent.
    pub expires_at: Micros,
    /// Which try to give it to its device: a report names it.
    pub attempt: i64,
    /// Its number in the outbox: a reader drops what is not above the highest it has seen.
    pub outbox_seq: i64,
}

impl Command {
    /// The payload of a command: as short as it can be.
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
            "expires_at": expires_at.div_euclid(time::SECOND),
        })
        .to_string()
    }

    /// The headers of its record.
    #[must_use]
    pub fn to_pairs(&self) -> Vec<(&'static str, Bytes)> {
        vec![
            ("v", Bytes::from_static(FORMAT.as_bytes())),
            ("request_id", Bytes::from(self.request_id.to_string())),
            ("expires_at", Bytes::from(self.expires_at.to_string())),
            ("attempt", Bytes::from(self.attempt.to_string())),
            ("outbox_seq", Bytes::from(self.outbox_seq.to_string())),
        ]
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// [`BadHeader`] naming what is missing or unreadable.
    pub fn from_record<'a>(
        key: &Bytes,
        value: Bytes,
        pairs: impl IntoIterator<Item = (&'a str, &'a Bytes)>,
    ) -> Result<Self, BadHeader> {
        let (mut request_id, mut expires_at, mut outbox_seq) = (None, None, None);
        let mut attempt = None;
        for (name, value) in pairs {
            let text = std::str::from_utf8(value).ok();
            match name {
                "request_id" => request_id = text.and_then(|t| t.parse().ok()),
                "expires_at" => expires_at = text.and_then(|t| t.parse().ok()),
                "attempt" => attempt = text.and_then(|t| t.parse().ok()),
                "outbox_seq" => outbox_seq = text.and_then(|t| t.parse().ok()),
                _ => {}
            }
        }
        let device_id = std::str::from_utf8(key).map_err(|_| BadHeader::new("key"))?;
        Ok(Self {
            request_id: request_id.ok_or(BadHeader::new("request_id"))?,
            device_id: device_id.to_owned(),
            payload: value,
            expires_at: expires_at.ok_or(BadHeader::new("expires_at"))?,
            attempt: attempt.ok_or(BadHeader::new("attempt"))?,
            outbox_seq: outbox_seq.ok_or(BadHeader::new("outbox_seq"))?,
        })
    }
}

/// What became of a command at the door, as `ingest` reports it on the uplink (kind `sent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which command.
    pub request_id: Uuid,
    /// Which try.
    pub attempt: i64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a command at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The device acknowledged it, or a broker took it for a subscriber.
    Sent,
    /// Nobody listens: it was given to nobody, for certain.
    NoSubscriber,
}

/// The size of the MQTT 5 PUBLISH packet (QoS 1, with message expiry) that carries a payload: a
/// device may take no larger one. Without the expiry, as in 3.1.1, it is six bytes less.
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
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_the_log() {
        let command = Command {
            request_id: Uuid::nil(),
            device_id: "d1".into(),
            payload: Bytes::from_static(b"{}"),
            expires_at: 5,
            attempt: 1,
            outbox_seq: 7,
        };
        let pairs = command.to_pairs();
        let read = |skip: &str| {
            let pairs = pairs.iter().filter(|(n, _)| *n != skip).map(|(n, v)| (*n, v));
            Command::from_record(&Bytes::from_static(b"d1"), Bytes::from_static(b"{}"), pairs)
        };
        assert_eq!(read(""), Ok(command.clone()));
        for header in ["request_id", "expires_at", "attempt", "outbox_seq"] {
            assert_eq!(read(header), Err(BadHeader::new(header)));
        }
    }

    #[test]
    fn the_payload_is_what_the_protocol_says() {
        let payload = Command::payload(Uuid::nil(), "ping", &Map::new(), 1_795_459_200_999_999);
        let json: Value = serde_json::from_str(&payload).expect("JSON");
        assert_eq!(json["expires_at"], 1_795_459_200);
        assert_eq!(json["command"], "ping");
        // 1 + 1 + (2 + 13) + 2 + 6 + 2 bytes.
        assert_eq!(packet_bytes("acuvim/d1/cmd", "{}"), 27);
        assert_eq!(packet_bytes("t", &"x".repeat(117)), 131, "two bytes of length from 128 on");
    }
}
