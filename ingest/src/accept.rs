//! The accept step: what a message is to the log, before anyone looks into its payload. Pure.

use acuvim_schemas::{
    Headers, Kind, Micros, Reason, Record,
    payload::registering_device,
    record::Reject,
    topic::{self, Uplink},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Bytes that a reject keeps of what it refuses.
pub(crate) const KEPT: usize = 64 << 10;

/// What messages are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptLimits {
    /// What our topics begin with.
    pub topic_prefix: String,
    /// The largest payload in bytes.
    pub max_payload: usize,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    /// The MQTT topic.
    pub topic: &'a str,
    /// The payload.
    pub payload: Bytes,
    /// Whether a broker replayed it as a retained message.
    pub retained: bool,
    /// When it came.
    pub received_at: Micros,
    /// The device that sent it, where it had to prove who it is.
    pub sender: Option<&'a str>,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the log; a reject among them, for what can't be used but is kept.
    Append(Record),
    /// It is counted and dropped: there is nothing to keep, or nobody to keep it for.
    Drop(DropReason),
}

/// Why a message is dropped at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Its topic is none of the six.
    ForeignTopic,
    /// Its topic belongs to another device than its sender.
    NotOwnTopic,
    /// Its device has sent all that it may today.
    DailyLimit,
}

impl DropReason {
    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ForeignTopic => "foreign_topic",
            Self::NotOwnTopic => "not_own_topic",
            Self::DailyLimit => "daily_limit",
        }
    }
}

/// Judges a message.
#[must_use]
pub fn accept(limits: &AcceptLimits, message: &Incoming<'_>) -> Verdict {
    match topic::parse(&limits.topic_prefix, message.topic) {
        Uplink::Foreign => Verdict::Drop(DropReason::ForeignTopic),
        Uplink::Device { device_id, .. } if message.sender.is_some_and(|s| s != device_id) => {
            Verdict::Drop(DropReason::NotOwnTopic)
        }
        _ if message.payload.len() > limits.max_payload => {
            let key = named_by(&limits.topic_prefix, message);
            Verdict::Append(reject(message, &key, Reason::TooLarge))
        }
        // A device that has shown who it is speaks for itself, and of itself it knows the id.
        Uplink::BadDeviceId { .. } if message.sender.is_some() => {
            Verdict::Drop(DropReason::NotOwnTopic)
        }
        Uplink::BadDeviceId { .. } => Verdict::Append(reject(message, "", Reason::BadDeviceId)),
        Uplink::Device { device_id, kind } => {
            Verdict::Append(record(message, device_id, kind.into()))
        }
        Uplink::Register => Verdict::Append(registration(message)),
    }
}

/// What is left of a message that the log won't take: its first bytes, length and hash.
#[must_use]
pub(crate) fn reject(message: &Incoming<'_>, key: &str, reason: Reason) -> Record {
    let digest = Sha256::digest(&message.payload);
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let length = message.payload.len() as u64;
    let mut record = record(message, key, Kind::Reject);
    // A copy: a slice would keep all of the payload alive.
    let kept = message.payload.get(..KEPT).unwrap_or(&message.payload);
    record.value = Bytes::copy_from_slice(kept);
    record.headers.reject = Some(Reject { reason, length, sha256 });
    record
}

/// The device that a message's topic or sender names; empty if neither does.
pub(crate) fn named_by(prefix: &str, message: &Incoming<'_>) -> String {
    match topic::parse(prefix, message.topic) {
        Uplink::Device { device_id, .. } => device_id.to_owned(),
        _ => message.sender.unwrap_or_default().to_owned(),
    }
}

fn registration(message: &Incoming<'_>) -> Record {
    match (registering_device(&message.payload), message.sender) {
        (Some(id), Some(sender)) if id != sender => reject(message, sender, Reason::IdMismatch),
        (Some(id), _) => record(message, &id, Kind::Register),
        // Who it was is known here only if it had to log in; the processor names the fault.
        (None, Some(sender)) => record(message, sender, Kind::Register),
        (None, None) => reject(message, "", Reason::BadDeviceId),
    }
}

fn record(message: &Incoming<'_>, key: &str, kind: Kind) -> Record {
    Record {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: message.payload.clone(),
        headers: Headers {
            kind,
            topic: Bytes::copy_from_slice(message.topic.as_bytes()),
            received_at: message.received_at,
            retained: message.retained,
            reject: None,
            replay_of: None,
            resolved_ts: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> AcceptLimits {
        AcceptLimits { topic_prefix: "acuvim".into(), max_payload: 100_000 }
    }

    fn judge(topic: &str, payload: impl Into<Bytes>, sender: Option<&str>) -> Verdict {
        let payload = payload.into();
        accept(&limits(), &Incoming { topic, payload, retained: false, received_at: 7, sender })
    }

    fn appended(verdict: Verdict) -> (String, Kind, Option<Reason>) {
        let Verdict::Append(record) = verdict else { panic!("{verdict:?}") };
        let key = String::from_utf8(record.key.to_vec()).expect("text");
        (key, record.headers.kind, record.headers.reject.map(|r| r.reason))
    }

    #[test]
    fn ours_are_appended_with_the_device_of_the_topic() {
        let got = appended(judge("acuvim/d1/telemetry", "{}", None));
        assert_eq!(got, ("d1".into(), Kind::Telemetry, None));
        let got = appended(judge("devices/register", r#"{"device_id":"d1"}"#, Some("d1")));
        assert_eq!(got, ("d1".into(), Kind::Register, None));
    }

    #[test]
    fn what_names_nobody_is_kept_as_a_reject() {
        for (topic, payload, sender, reason) in [
            ("acuvim/a b/telemetry", "{}", None, Reason::BadDeviceId),
            ("devices/register", "{}", None, Reason::BadDeviceId),
            ("devices/register", r#"{"device_id":"d2"}"#, Some("d1"), Reason::IdMismatch),
        ] {
            let (_, kind, got) = appended(judge(topic, payload, sender));
            assert_eq!((kind, got), (Kind::Reject, Some(reason)), "{topic} {payload}");
        }
    }

    #[test]
    fn too_large_keeps_the_first_bytes_length_and_hash() {
        let Verdict::Append(record) = judge("acuvim/d1/telemetry", vec![b'x'; 100_001], None)
        else {
            panic!()
        };
        assert_eq!(record.value.len(), KEPT);
        let reject = record.headers.reject.expect("a reject");
        assert_eq!((reject.reason, reject.length), (Reason::TooLarge, 100_001));
        assert_eq!(reject.sha256.len(), 64);
        assert_eq!(record.key.as_ref(), b"d1");
    }

    #[test]
    fn others_topics_are_dropped() {
        let drop = Verdict::Drop;
        assert_eq!(judge("acuvim/d1/cmd", "{}", None), drop(DropReason::ForeignTopic));
        assert_eq!(judge("acuvim/d1/pulse", "", None), drop(DropReason::ForeignTopic));
        assert_eq!(judge("acuvim/d2/status", "{}", Some("d1")), drop(DropReason::NotOwnTopic));
        let huge = vec![b'x'; 200_000];
        assert_eq!(judge("acuvim/d2/status", huge, Some("d1")), drop(DropReason::NotOwnTopic));
    }

    proptest! {
        #[test]
        fn any_topic_and_bytes_are_judged(
            topic in ".{0,60}",
            payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            judge(&topic, payload.clone(), None);
            judge(&format!("acuvim/{topic}/telemetry"), payload, Some("d1"));
        }
    }
}
