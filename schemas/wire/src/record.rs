//! A record of the uplink: the bytes that a device sent, and what ingest knew when it received them.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{dead_letter::Reason, kind::Kind, time::Micros};

/// A topic of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogTopic {
    /// Messages of devices, and records that ingest adds. One topic for all kinds, so that the messages of a
    /// device keep their order.
    Uplink,
    /// Commands on their way to devices.
    Commands,
    /// Events of alerts, devices, rollouts and commands, for live clients.
    Events,
}

impl LogTopic {
    /// Every topic of the log.
    pub const ALL: [Self; 3] = [Self::Uplink, Self::Commands, Self::Events];

    /// The last part of its name on Kafka.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Commands => "commands",
            Self::Events => "events",
        }
    }

    /// Its name in the embedded log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uplink => "acuvim.uplink",
            Self::Commands => "acuvim.commands",
            Self::Events => "acuvim.events",
        }
    }
}

/// One record of the uplink topic. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The device id; empty if the message could not be assigned to a device.
    pub key: Bytes,
    /// The payload as it was received.
    pub value: Bytes,
    /// What ingest knew about it.
    pub headers: Headers,
}

/// What ingest adds to a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The kind of record.
    pub kind: Kind,
    /// The MQTT topic that the message came on.
    pub topic: Bytes,
    /// When ingest received it. All decisions about the record use this time and no clock, so that processing
    /// it again gives the same result.
    pub received_at: Micros,
    /// Whether it is a retained message that the broker sent to a new subscriber.
    pub retained: bool,
    /// Why ingest refused it; only with [`Kind::Reject`].
    pub reject: Option<Reject>,
    /// The dead letter that this record replays.
    pub replay_of: Option<Identity>,
    /// The event time, if the device had no clock and its boot time has become known since.
    pub resolved_ts: Option<Micros>,
}

/// A message that ingest refused, and what is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The reason, as in `dead_letters.reason`.
    pub reason: Reason,
    /// Length of the whole payload in bytes; the record keeps at most its first 64 KiB.
    pub length: u64,
    /// SHA-256 of the whole payload, in hex.
    pub sha256: String,
}

/// The position of a record in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Partition of the topic.
    pub partition: u32,
    /// Offset within the partition, from 0. The embedded log has no gaps.
    pub offset: i64,
}

/// What a record contributes to each row that is made from it.
#[derive(Debug, Clone, Copy)]
pub struct RecordFacts<'a> {
    /// The device; empty if unknown.
    pub device_id: &'a str,
    /// The record's kind, as text.
    pub kind: &'a str,
    /// The MQTT topic that the message came on.
    pub topic: &'a str,
    /// When ingest received it.
    pub received_at: Micros,
    /// The epoch of the log: it grows when the log is begun anew, and offsets start again.
    pub epoch: i32,
    /// The position in the log.
    pub position: Position,
}

/// The permanent identity of a reading or a dead letter: the log's epoch, the position of its record, and the
/// index within the payload. As text `epoch:partition:offset:item`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    /// The epoch of the log: it grows when the log is begun anew, and offsets start again.
    pub epoch: i32,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset within the partition.
    pub offset: i64,
    /// Index in the payload.
    pub item: i32,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.epoch, self.partition, self.offset, self.item)
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.to_string()
    }
}

/// The text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an identity is epoch:partition:offset:item")]
pub struct InvalidIdentity;

impl TryFrom<String> for Identity {
    type Error = InvalidIdentity;
    fn try_from(text: String) -> Result<Self, InvalidIdentity> {
        Self::parse(&text).ok_or(InvalidIdentity)
    }
}

impl Identity {
    /// Reads `epoch:partition:offset:item`; none if the text is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let identity = Self {
            epoch: parts.next()?.parse().ok()?,
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
            item: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(identity)
    }
}

#[cfg(test)]
mod tests;
