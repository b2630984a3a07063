//! Messages become entries, and a read waits for as long as it has to.

use proptest::prelude::*;
use rdkafka::{
    Timestamp,
    message::{Header, OwnedHeaders, OwnedMessage},
};

use super::*;

fn message(
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
) -> OwnedMessage {
    OwnedMessage::new(value, key, "t".into(), Timestamp::NotAvailable, 0, 7, headers)
}

#[test]
fn a_message_without_key_value_or_headers_is_an_empty_entry() {
    assert_eq!(entry_of(&message(None, None, None)), Entry::default());
    let none: Option<&[u8]> = None;
    let headers = OwnedHeaders::new().insert(Header { key: "a", value: none });
    let entry = entry_of(&message(None, Some(b"v".to_vec()), Some(headers)));
    assert_eq!(entry.headers, [(Bytes::from_static(b"a"), Bytes::new())]);
    assert_eq!((entry.key.as_ref(), entry.value.as_ref()), (&b""[..], &b"v"[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_part_of_a_message_is_where_it_belongs(
        key in prop::collection::vec(any::<u8>(), 0..20),
        value in prop::collection::vec(any::<u8>(), 0..20),
        headers in prop::collection::vec(("[a-z_]{1,9}", prop::collection::vec(any::<u8>(), 0..9)), 0..5),
    ) {
        let owned = headers.iter().fold(OwnedHeaders::new(), |all, (name, value)| {
            all.insert(Header { key: name, value: Some(value) })
        });
        let entry = entry_of(&message(Some(key.clone()), Some(value.clone()), Some(owned)));
        prop_assert_eq!((entry.key.as_ref(), entry.value.as_ref()), (&key[..], &value[..]));
        let held: Vec<(&[u8], &[u8])> =
            entry.headers.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        let want: Vec<(&[u8], &[u8])> =
            headers.iter().map(|(n, v)| (n.as_bytes(), &v[..])).collect();
        prop_assert_eq!(held, want);
    }
}

fn reader(at_end: bool) -> Reader {
    let options = KafkaOptions::at("127.0.0.1:1");
    Reader {
        consumer: consumer(&options, "test").expect("a consumer"),
        topic: LogTopic::Uplink,
        name: "acuvim.uplink".into(),
        partition: 3,
        next: 40,
        held: None,
        at_end,
    }
}

#[test]
fn a_reader_is_only_used_again_at_its_own_place() {
    let reader = reader(true);
    assert!(reader.is_at(LogTopic::Uplink, 3, 40));
    assert!(!reader.is_at(LogTopic::Uplink, 3, 41), "records would be passed over");
    assert!(!reader.is_at(LogTopic::Commands, 3, 40) && !reader.is_at(LogTopic::Uplink, 2, 40));
}

#[test]
fn a_read_waits_at_the_end_for_what_comes_and_elsewhere_for_the_brokers() {
    let (at_end, behind) = (reader(true), reader(false));
    let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).expect("a time");
    let (now, minute) = (Instant::now(), Duration::from_secs(60));
    let second = Duration::from_secs(1);
    let waits = |reader: &Reader, begun, wait, enough, exactly| {
        reader.wait(begun, wait, enough, exactly).expect("no error")
    };
    assert_eq!(waits(&at_end, now, minute, true, false), Some(Duration::ZERO), "has records");
    assert_eq!(waits(&at_end, now, minute, true, true), None, "has all that was there");
    assert!(waits(&at_end, now, minute, false, false).is_some_and(|left| left > 50 * second));
    assert_eq!(waits(&at_end, long_ago, second, false, false), None, "the wait is over");
    assert!(waits(&behind, now, Duration::ZERO, false, true).is_some_and(|left| left > second));
    let error = behind.wait(long_ago, minute, false, false).expect_err("no answer");
    assert_eq!(error.kind(), crate::error::ErrorKind::Unavailable);
}
