//! A log record: the bytes a device sent, and what ingest knew about them when they came.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{dead_letter::Reason, kind::Kind, time::Micros};

/// A topic of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogTopic {
    /// Everything that devices say, and what ingest has to say: one topic, so that what one device
    /// says stays in one order.
    Uplink,
    /// Commands on their way to devices.
    Commands,
    /// Live events.
    Events,
}

impl LogTopic {
    /// Every topic.
    pub const ALL: [Self; 3] = [Self::Uplink, Self::Commands, Self::Events];

    /// What its name on Kafka ends with.
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

/// The version of the record format, in the header `v`.
pub const FORMAT: &str = "1";

/// One record of the uplink topic. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The device id; empty where a message could not be tied to one.
    pub key: Bytes,
    /// The payload as it came.
    pub value: Bytes,
    /// What is known beside the payload.
    pub headers: Headers,
}

/// What ingest writes beside a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// What the record is.
    pub kind: Kind,
    /// The MQTT topic it came on.
    pub topic: Bytes,
    /// When ingest took it: the time that every decision about the record uses.
    pub received_at: Micros,
    /// Whether the broker replayed a retained message.
    pub retained: bool,
    /// Why ingest could not take it, on records of kind [`Kind::Reject`].
    pub reject: Option<Reject>,
    /// The dead letter that this record brings again.
    pub replay_of: Option<Identity>,
    /// When it happened, where its device could not say and it became known since.
    pub resolved_ts: Option<Micros>,
}

/// Why ingest gave a message up at the door, and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The reason, as in `dead_letters.reason`.
    pub reason: Reason,
    /// Length of the whole payload in bytes; the record keeps at most its first 64 KiB.
    pub length: u64,
    /// SHA-256 of the whole payload, in hex.
    pub sha256: String,
}

/// Where a record is: the identity of all that comes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Partition of the topic.
    pub partition: u32,
    /// Offset within the partition, from 0, without gaps on the embedded log.
    pub offset: i64,
}

/// What a reading or a dead letter is known by for ever: the log's epoch, the record's position, and
/// the item in its payload. As text `epoch:partition:offset:item`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    /// The log's epoch.
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

/// A text is no identity.
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
    /// Reads `epoch:partition:offset:item`.
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

/// A record's headers can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record header `{0}` is missing or unreadable")]
pub struct BadHeader(&'static str);

impl BadHeader {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self(name)
    }
}

impl Headers {
    /// The headers as name and bytes, as Kafka and the embedded log both store them.
    #[must_use]
    pub fn to_pairs(&self) -> Vec<(&'static str, Bytes)> {
        let mut pairs = vec![
            ("v", Bytes::from_static(FORMAT.as_bytes())),
            ("kind", Bytes::from_static(self.kind.as_str().as_bytes())),
            ("topic", self.topic.clone()),
            ("received_at", Bytes::from(self.received_at.to_string())),
        ];
        if self.retained {
            pairs.push(("retained", Bytes::from_static(b"1")));
        }
        if let Some(reject) = &self.reject {
            pairs.push(("reason", Bytes::from_static(reject.reason.as_str().as_bytes())));
            pairs.push(("length", Bytes::from(reject.length.to_string())));
            pairs.push(("sha256", Bytes::from(reject.sha256.clone())));
        }
        if let Some(letter) = &self.replay_of {
            pairs.push(("replay_of", Bytes::from(letter.to_string())));
        }
        if let Some(ts) = self.resolved_ts {
            pairs.push(("resolved_ts", Bytes::from(ts.to_string())));
        }
        pairs
    }

    /// Reads headers back; names it does not know are passed over, so that a newer writer's
    /// records stay readable.
    ///
    /// # Errors
    /// [`BadHeader`] naming the header that is missing or unreadable.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a Bytes)>,
    ) -> Result<Self, BadHeader> {
        let (mut kind, mut topic, mut received_at, mut retained) = (None, None, None, false);
        let (mut reason, mut length, mut sha256) = (None, None, None);
        let (mut replay_of, mut resolved_ts) = (None, None);
        for (name, value) in pairs {
            let text = || std::str::from_utf8(value).ok();
            match name {
                "kind" => kind = text().and_then(Kind::parse),
                "topic" => topic = Some(value.clone()),
                "received_at" => received_at = text().and_then(|t| t.parse().ok()),
                "retained" => retained = value.as_ref() == b"1",
                "reason" => reason = text().and_then(Reason::parse),
                "length" => length = text().and_then(|t| t.parse().ok()),
                "sha256" => sha256 = text().map(str::to_owned),
                "replay_of" => replay_of = text().and_then(Identity::parse),
                "resolved_ts" => resolved_ts = text().and_then(|t| t.parse().ok()),
                _ => {}
            }
        }
        let kind = kind.ok_or(BadHeader("kind"))?;
        let reject = if kind == Kind::Reject {
            Some(Reject {
                reason: reason.ok_or(BadHeader("reason"))?,
                length: length.ok_or(BadHeader("length"))?,
                sha256: sha256.ok_or(BadHeader("sha256"))?,
            })
        } else {
            None
        };
        Ok(Self {
            kind,
            topic: topic.ok_or(BadHeader("topic"))?,
            received_at: received_at.ok_or(BadHeader("received_at"))?,
            retained,
            reject,
            replay_of,
            resolved_ts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(h: &Headers) -> Result<Headers, BadHeader> {
        let pairs = h.to_pairs();
        Headers::from_pairs(pairs.iter().map(|(n, v)| (*n, v)))
    }

    #[test]
    fn headers_survive_the_trip() {
        let mut h = Headers {
            kind: Kind::Status,
            topic: Bytes::from_static(b"acuvim/a/status"),
            received_at: 1_795_459_200_000_001,
            retained: true,
            reject: None,
            replay_of: None,
            resolved_ts: None,
        };
        assert_eq!(pairs(&h), Ok(h.clone()));
        h.kind = Kind::Reject;
        assert_eq!(pairs(&h), Err(BadHeader("reason")));
        h.reject = Some(Reject { reason: Reason::TooLarge, length: 9, sha256: "ab".into() });
        assert_eq!(pairs(&h), Ok(h.clone()));
        h.replay_of = Some(Identity { epoch: 1, partition: 2, offset: 3_000_000_000, item: 4 });
        h.resolved_ts = Some(1_795_459_200_000_000);
        assert_eq!(pairs(&h), Ok(h.clone()));
    }

    #[test]
    fn identities_are_read_back_and_nothing_else_is() {
        let identity = Identity { epoch: 0, partition: 3, offset: 9, item: 1 };
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        for bad in ["", "1:2:3", "1:2:3:4:5", "a:1:2:3"] {
            assert_eq!(Identity::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_from_the_future_is_passed_over() {
        let value = Bytes::from_static(b"telemetry");
        let got = Headers::from_pairs([("kind", &value), ("topic", &value), ("new", &value)]);
        assert_eq!(got, Err(BadHeader("received_at")));
    }
}
