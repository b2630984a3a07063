//! What the entries of the log mean: the three kinds of record that this system appends, each with the
//! topic it belongs to, written and read in this one place.
//!
//! | topic | meaning | key | value |
//! |---|---|---|---|
//! | `uplink` | [`Record`] | device id | the payload as it came |
//! | `commands` | [`Command`] | device id | the MQTT payload for the device |
//! | `events` | [`EventRecord`] | device id | the event as JSON |
//!
//! Readers skip headers they do not know, so that records of a newer version stay readable.

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    Identity, Kind, Micros, Reason,
    command::Command,
    record::{Headers, Record, Reject},
};

/// The version of the record format, in the header `v`.
const FORMAT: &str = "1";

/// An entry of the log: key, value and headers, as bytes. Cloning shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The partition is a hash of the key.
    pub key: Bytes,
    /// The payload, whose meaning depends on the topic.
    pub value: Bytes,
    /// Names and values, in order.
    pub headers: Vec<(Bytes, Bytes)>,
}

/// The entry was not written by this system, or is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a record of this system: header `{0}` is missing or unreadable")]
pub struct BadEntry(&'static str);

impl Entry {
    /// Bytes of key, value and headers, with what the embedded log's layout adds to them.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(n, v)| n.len() + v.len() + 6).sum();
        self.key.len() + self.value.len() + headers + 10
    }

    /// The number that the outbox gave a command or an event. Readers drop what is not above the highest
    /// number they have seen, because the outbox delivers again after a crash.
    #[must_use]
    pub fn outbox_seq(&self) -> Option<i64> {
        self.number("outbox_seq")
    }

    fn new(key: Bytes, value: Bytes, headers: Vec<(&'static str, Bytes)>) -> Self {
        let version = ("v", Bytes::from_static(FORMAT.as_bytes()));
        let headers = std::iter::once(version).chain(headers);
        let headers = headers.map(|(name, value)| (Bytes::from_static(name.as_bytes()), value));
        Self { key, value, headers: headers.collect() }
    }

    fn header(&self, name: &str) -> Option<&Bytes> {
        // The last one wins, as in every map that a writer might have filled twice.
        self.headers.iter().rev().find(|(n, _)| n.as_ref() == name.as_bytes()).map(|(_, v)| v)
    }

    fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        let Headers { kind, topic, received_at, retained, reject, replay_of, resolved_ts } =
            record.headers;
        let mut headers = vec![
            ("kind", Bytes::from_static(kind.as_str().as_bytes())),
            ("topic", topic),
            ("received_at", Bytes::from(received_at.to_string())),
        ];
        if retained {
            headers.push(("retained", Bytes::from_static(b"1")));
        }
        if let Some(reject) = reject {
            headers.push(("reason", Bytes::from_static(reject.reason.as_str().as_bytes())));
            headers.push(("length", Bytes::from(reject.length.to_string())));
            headers.push(("sha256", Bytes::from(reject.sha256)));
        }
        if let Some(dead_letter) = replay_of {
            headers.push(("replay_of", Bytes::from(dead_letter.to_string())));
        }
        if let Some(ts) = resolved_ts {
            headers.push(("resolved_ts", Bytes::from(ts.to_string())));
        }
        Self::new(record.key, record.value, headers)
    }
}

impl TryFrom<&Entry> for Record {
    type Error = BadEntry;
    /// Shares the entry's bytes.
    fn try_from(entry: &Entry) -> Result<Self, BadEntry> {
        let kind = entry.text("kind").and_then(Kind::parse).ok_or(BadEntry("kind"))?;
        // Only with this kind, so that a stray header can't turn a good message into a dead letter.
        let reject = if kind == Kind::Reject { Some(reject_of(entry)?) } else { None };
        let headers = Headers {
            kind,
            topic: entry.header("topic").ok_or(BadEntry("topic"))?.clone(),
            received_at: entry.number("received_at").ok_or(BadEntry("received_at"))?,
            retained: entry.header("retained").is_some_and(|v| v.as_ref() == b"1"),
            reject,
            // A damaged one is no reason to refuse the message: it is then no replay, and deduplicated as any.
            replay_of: entry.text("replay_of").and_then(Identity::parse),
            resolved_ts: entry.number::<Micros>("resolved_ts"),
        };
        Ok(Self { key: entry.key.clone(), value: entry.value.clone(), headers })
    }
}

fn reject_of(entry: &Entry) -> Result<Reject, BadEntry> {
    Ok(Reject {
        reason: entry.text("reason").and_then(Reason::parse).ok_or(BadEntry("reason"))?,
        length: entry.number("length").ok_or(BadEntry("length"))?,
        sha256: entry.text("sha256").ok_or(BadEntry("sha256"))?.to_owned(),
    })
}

impl From<Command> for Entry {
    fn from(command: Command) -> Self {
        let headers = vec![
            ("request_id", Bytes::from(command.request_id.to_string())),
            ("expires_at", Bytes::from(command.expires_at.to_string())),
            ("attempt", Bytes::from(command.attempt.to_string())),
            ("outbox_seq", Bytes::from(command.outbox_seq.to_string())),
        ];
        Self::new(Bytes::from(command.device_id), command.payload, headers)
    }
}

impl TryFrom<&Entry> for Command {
    type Error = BadEntry;
    /// Shares the entry's bytes.
    fn try_from(entry: &Entry) -> Result<Self, BadEntry> {
        let device_id = std::str::from_utf8(&entry.key).map_err(|_| BadEntry("key"))?;
        Ok(Self {
            request_id: entry.number::<Uuid>("request_id").ok_or(BadEntry("request_id"))?,
            device_id: device_id.to_owned(),
            payload: entry.value.clone(),
            expires_at: entry.number("expires_at").ok_or(BadEntry("expires_at"))?,
            attempt: entry.number("attempt").ok_or(BadEntry("attempt"))?,
            outbox_seq: entry.outbox_seq().ok_or(BadEntry("outbox_seq"))?,
        })
    }
}

/// A live event on its way through the log. The meaning of its body belongs to the model, which this crate
/// does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// The device concerned; empty for events of the system itself.
    pub device_id: String,
    /// The type of event, in the header `type`, for readers that do not want to parse every body.
    pub kind: &'static str,
    /// Its number in the outbox.
    pub outbox_seq: i64,
    /// The event as JSON.
    pub body: Bytes,
}

impl From<EventRecord> for Entry {
    fn from(event: EventRecord) -> Self {
        let headers = vec![
            ("type", Bytes::from_static(event.kind.as_bytes())),
            ("outbox_seq", Bytes::from(event.outbox_seq.to_string())),
        ];
        Self::new(Bytes::from(event.device_id), event.body, headers)
    }
}

#[cfg(test)]
mod tests;
