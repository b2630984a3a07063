//! The accept step: decides by topic, sender and size what becomes of a message, before its payload is looked
//! at. Pure.

use acuvim_wire::{
    Headers, Kind, Micros, Reason, Record,
    payload::registering_device,
    record::Reject,
    topic::{self, Uplink},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Bytes of the payload that a reject keeps.
const KEPT: usize = 64 << 10;

/// The settings of the accept step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptLimits {
    /// The prefix of our topics.
    pub topic_prefix: String,
    /// The largest payload in bytes.
    pub max_payload: usize,
}

/// A message as it was received.
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    /// The MQTT topic.
    pub topic: &'a str,
    /// The payload, of any length and content.
    pub payload: Bytes,
    /// Whether a broker replayed it as a retained message.
    pub retained: bool,
    /// When it was received.
    pub received_at: Micros,
    /// The device that sent it, if the connection was authenticated as one.
    pub sender: Option<&'a str>,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// It goes to the log: as it is, or as a reject if it can't be used but should be kept as evidence.
    Append(Record),
    /// It is counted and dropped.
    Drop(DropReason),
}

/// Why a message is dropped and not even kept as a reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Its topic is not one of the six uplink topics.
    ForeignTopic,
    /// Its topic belongs to another device than the sender.
    NotOwnTopic,
    /// Its device is over its daily limit, which a reject has reported already.
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

/// Decides what becomes of a message.
#[must_use]
pub fn accept(limits: &AcceptLimits, message: &Incoming<'_>) -> Acceptance {
    match topic::parse(&limits.topic_prefix, message.topic) {
        Uplink::Foreign => Acceptance::Drop(DropReason::ForeignTopic),
        Uplink::Device { device_id, .. } if message.sender.is_some_and(|s| s != device_id) => {
            Acceptance::Drop(DropReason::NotOwnTopic)
        }
        // Before the checks of ids, which would keep the payload whole.
        _ if message.payload.len() > limits.max_payload => {
            let key = device_of(&limits.topic_prefix, message);
            Acceptance::Append(reject(message, &key, Reason::TooLarge))
        }
        // An authenticated device knows its id, so this is no typing error worth keeping.
        Uplink::BadDeviceId { .. } if message.sender.is_some() => {
            Acceptance::Drop(DropReason::NotOwnTopic)
        }
        Uplink::BadDeviceId { .. } => Acceptance::Append(reject(message, "", Reason::BadDeviceId)),
        Uplink::Device { device_id, kind } => {
            Acceptance::Append(record(message, device_id, kind.into()))
        }
        Uplink::Register => Acceptance::Append(registration(message)),
    }
}

/// A record of a refused message: its first bytes, its length and its hash.
#[must_use]
pub(crate) fn reject(message: &Incoming<'_>, key: &str, reason: Reason) -> Record {
    let sha256 = hex::encode(Sha256::digest(&message.payload));
    let length = message.payload.len() as u64;
    let mut record = record(message, key, Kind::Reject);
    // A copy, because a slice would keep the whole payload in memory.
    let kept = message.payload.get(..KEPT).unwrap_or(&message.payload);
    record.value = Bytes::copy_from_slice(kept);
    record.headers.reject = Some(Reject { reason, length, sha256 });
    record
}

/// The device of the topic, or else of the connection; empty if neither names one.
pub(crate) fn device_of(prefix: &str, message: &Incoming<'_>) -> String {
    match topic::parse(prefix, message.topic) {
        Uplink::Device { device_id, .. } => device_id.to_owned(),
        _ => message.sender.unwrap_or_default().to_owned(),
    }
}

fn registration(message: &Incoming<'_>) -> Record {
    match (registering_device(&message.payload), message.sender) {
        // Kept as evidence under the sender: a device with the secret of another one, or a mistake at
        // provisioning.
        (Some(id), Some(sender)) if id != sender => reject(message, sender, Reason::IdMismatch),
        (Some(id), _) => record(message, &id, Kind::Register),
        // An authenticated sender is known without the payload; the processor reports what is wrong with it.
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

    fn decide(topic: &str, payload: impl Into<Bytes>, sender: Option<&str>) -> Acceptance {
        let payload = payload.into();
        accept(&limits(), &Incoming { topic, payload, retained: false, received_at: 7, sender })
    }

    fn appended(acceptance: Acceptance) -> (String, Kind, Option<Reason>) {
        let Acceptance::Append(record) = acceptance else { panic!("{acceptance:?}") };
        let key = String::from_utf8(record.key.to_vec()).expect("text");
        (key, record.headers.kind, record.headers.reject.map(|r| r.reason))
    }

    #[test]
    fn uplink_topics_are_appended_with_their_device() {
        let got = appended(decide("acuvim/d1/telemetry", "{}", None));
        assert_eq!(got, ("d1".into(), Kind::Telemetry, None));
        let got = appended(decide("devices/register", r#"{"device_id":"d1"}"#, Some("d1")));
        assert_eq!(got, ("d1".into(), Kind::Register, None));
    }

    #[test]
    fn messages_without_a_device_are_kept_as_rejects() {
        for (topic, payload, sender, reason) in [
            ("acuvim/a b/telemetry", "{}", None, Reason::BadDeviceId),
            ("devices/register", "{}", None, Reason::BadDeviceId),
            ("devices/register", r#"{"device_id":"d2"}"#, Some("d1"), Reason::IdMismatch),
        ] {
            let (_, kind, got) = appended(decide(topic, payload, sender));
            assert_eq!((kind, got), (Kind::Reject, Some(reason)), "{topic} {payload}");
        }
    }

    #[test]
    fn a_payload_over_the_limit_is_cut_and_hashed() {
        let Acceptance::Append(record) = decide("acuvim/d1/telemetry", vec![b'x'; 100_001], None)
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
    fn foreign_topics_and_those_of_other_devices_are_dropped() {
        let drop = Acceptance::Drop;
        assert_eq!(decide("acuvim/d1/cmd", "{}", None), drop(DropReason::ForeignTopic));
        assert_eq!(decide("acuvim/d1/pulse", "", None), drop(DropReason::ForeignTopic));
        assert_eq!(decide("acuvim/d2/status", "{}", Some("d1")), drop(DropReason::NotOwnTopic));
        let huge = vec![b'x'; 200_000];
        assert_eq!(decide("acuvim/d2/status", huge, Some("d1")), drop(DropReason::NotOwnTopic));
    }

    #[test]
    fn an_authenticated_device_that_registers_without_an_id_is_taken_for_itself() {
        let got = appended(decide("devices/register", "not json", Some("d1")));
        assert_eq!(got, ("d1".into(), Kind::Register, None));
        let got = decide("acuvim/a b/telemetry", "{}", Some("d1"));
        assert_eq!(got, Acceptance::Drop(DropReason::NotOwnTopic));
    }

    /// The limit is inclusive, and comes before the check of the id: a huge payload is never kept whole.
    #[test]
    fn the_size_is_looked_at_first() {
        let limit = limits().max_payload;
        let got = appended(decide("acuvim/d1/telemetry", vec![b'x'; limit], None));
        assert_eq!(got, ("d1".into(), Kind::Telemetry, None));
        for (topic, sender, key) in [
            ("acuvim/d1/telemetry", None, "d1"),
            ("acuvim/a b/telemetry", None, ""),
            ("devices/register", Some("d1"), "d1"),
        ] {
            let got = appended(decide(topic, vec![b'x'; limit + 1], sender));
            assert_eq!(got, (key.into(), Kind::Reject, Some(Reason::TooLarge)), "{topic}");
        }
    }

    /// The evidence of a refused message is complete up to 64 KiB, and can be compared by its hash.
    #[test]
    fn a_reject_keeps_the_first_64_kib_and_the_hash_of_all() {
        for (length, kept) in [(0, 0), (KEPT - 1, KEPT - 1), (KEPT, KEPT), (KEPT + 1, KEPT)] {
            let Acceptance::Append(record) =
                decide("acuvim/a b/telemetry", vec![7_u8; length], None)
            else {
                panic!()
            };
            let reject = record.headers.reject.expect("a reject");
            assert_eq!((record.value.len(), reject.length), (kept, length as u64));
        }
        let Acceptance::Append(record) = decide("acuvim/a b/telemetry", "abc", None) else {
            panic!()
        };
        // The example of FIPS 180-4.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(record.headers.reject.expect("a reject").sha256, sha256);
    }

    proptest! {
        /// An authenticated device can store nothing under another id, whatever it sends where.
        #[test]
        fn the_key_of_a_record_is_its_sender(
            topic in prop_oneof![
                "acuvim/(d1|d2|a b|)/(telemetry|status|resp|alerts|heartbeat|cmd)",
                Just("devices/register".to_owned()),
                ".{0,30}",
            ],
            payload in prop_oneof![
                Just(r#"{"device_id":"d2"}"#.to_owned()), Just(r#"{"device_id":"d1"}"#.to_owned()),
                ".{0,30}",
            ],
        ) {
            if let Acceptance::Append(record) = decide(&topic, payload, Some("d1")) {
                prop_assert_eq!(record.key.as_ref(), b"d1");
                prop_assert_eq!(record.headers.topic.as_ref(), topic.as_bytes());
                prop_assert_eq!(record.headers.received_at, 7);
            }
        }

        #[test]
        fn no_topic_or_payload_panics(
            topic in ".{0,60}",
            payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            decide(&topic, payload.clone(), None);
            decide(&format!("acuvim/{topic}/telemetry"), payload, Some("d1"));
        }
    }
}
