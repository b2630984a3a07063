//! A log record: the bytes a device sent, and what ingest knew about them when they came.

use bytes::Bytes;

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

    /// The topic's name.
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
        };
        assert_eq!(pairs(&h), Ok(h.clone()));
        h.kind = Kind::Reject;
        assert_eq!(pairs(&h), Err(BadHeader("reason")));
        h.reject = Some(Reject { reason: Reason::TooLarge, length: 9, sha256: "ab".into() });
        assert_eq!(pairs(&h), Ok(h.clone()));
    }

    #[test]
    fn a_header_from_the_future_is_passed_over() {
        let value = Bytes::from_static(b"telemetry");
        let got = Headers::from_pairs([("kind", &value), ("topic", &value), ("new", &value)]);
        assert_eq!(got, Err(BadHeader("received_at")));
    }
}
