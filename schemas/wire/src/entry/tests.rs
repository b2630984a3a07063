use super::*;
use proptest::prelude::*;

fn record() -> Record {
    Record {
        key: Bytes::from_static(b"d1"),
        value: Bytes::from_static(b"{}"),
        headers: Headers {
            kind: Kind::Status,
            topic: Bytes::from_static(b"acuvim/d1/status"),
            received_at: 1_795_459_200_000_001,
            retained: true,
            reject: None,
            replay_of: None,
            resolved_ts: None,
        },
    }
}

fn read(record: &Record) -> Result<Record, BadEntry> {
    Record::try_from(&Entry::from(record.clone()))
}

fn without(mut entry: Entry, name: &str) -> Entry {
    entry.headers.retain(|(n, _)| n.as_ref() != name.as_bytes());
    entry
}

#[test]
fn records_survive_the_log() {
    let mut record = record();
    assert_eq!(read(&record), Ok(record.clone()));
    record.headers.kind = Kind::Reject;
    assert_eq!(read(&record), Err(BadEntry("reason")));
    let sha256 = "ab".to_owned();
    record.headers.reject = Some(Reject { reason: Reason::TooLarge, length: 9, sha256 });
    assert_eq!(read(&record), Ok(record.clone()));
    record.headers.replay_of =
        Some(Identity { epoch: 1, partition: 2, offset: 3_000_000_000, item: 4 });
    record.headers.resolved_ts = Some(1_795_459_200_000_000);
    assert_eq!(read(&record), Ok(record));
}

#[test]
fn unknown_headers_are_skipped_and_missing_ones_named() {
    let mut entry = Entry::from(record());
    entry.headers.push((Bytes::from_static(b"new"), Bytes::from_static(b"\xff")));
    assert_eq!(Record::try_from(&entry), Ok(record()));
    for name in ["kind", "topic", "received_at"] {
        let found = Record::try_from(&without(entry.clone(), name));
        assert!(matches!(found, Err(BadEntry(missing)) if missing == name), "{name}");
    }
    assert_eq!(Record::try_from(&Entry::default()), Err(BadEntry("kind")));
}

#[test]
fn commands_survive_the_log() {
    let command = Command {
        request_id: Uuid::nil(),
        device_id: "d1".into(),
        payload: Bytes::from_static(b"{}"),
        expires_at: 5,
        attempt: 1,
        outbox_seq: 7,
    };
    let entry = Entry::from(command.clone());
    assert_eq!(Command::try_from(&entry), Ok(command));
    for name in ["request_id", "expires_at", "attempt", "outbox_seq"] {
        let found = Command::try_from(&without(entry.clone(), name));
        assert!(matches!(found, Err(BadEntry(missing)) if missing == name), "{name}");
    }
    let stranger = Entry { key: Bytes::from_static(b"\xff"), ..entry };
    assert_eq!(Command::try_from(&stranger), Err(BadEntry("key")));
}

#[test]
fn events_carry_their_type_and_number() {
    let body = Bytes::from_static(b"{}");
    let event = EventRecord { device_id: "d1".into(), kind: "alert_events", outbox_seq: 9, body };
    let entry = Entry::from(event);
    assert_eq!((entry.key.as_ref(), entry.outbox_seq()), (&b"d1"[..], Some(9)));
    assert_eq!(entry.text("type"), Some("alert_events"));
    assert_eq!(without(entry, "outbox_seq").outbox_seq(), None);
}

/// Other versions and other programs read these headers: neither names nor forms may change.
#[test]
fn the_headers_of_each_record_are_as_agreed() {
    let shown = |entry: &Entry| -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        entry
            .headers
            .iter()
            .map(|(name, value)| format!("{}={}", text(name), text(value)))
            .collect()
    };
    let mut full = record();
    full.headers.kind = Kind::Reject;
    full.headers.reject =
        Some(Reject { reason: Reason::DailyLimit, length: 70_000, sha256: "ab12".to_owned() });
    full.headers.replay_of = Some(Identity { epoch: 1, partition: 2, offset: 3, item: 4 });
    full.headers.resolved_ts = Some(-1);
    let want = [
        "v=1",
        "kind=reject",
        "topic=acuvim/d1/status",
        "received_at=1795459200000001",
        "retained=1",
        "reason=daily_limit",
        "length=70000",
        "sha256=ab12",
        "replay_of=1:2:3:4",
        "resolved_ts=-1",
    ];
    assert_eq!(shown(&full.into()), want);
    let command = Command {
        request_id: Uuid::nil(),
        device_id: "d1".into(),
        payload: Bytes::from_static(b"{}"),
        expires_at: 5,
        attempt: 1,
        outbox_seq: 7,
    };
    let id = "request_id=00000000-0000-0000-0000-000000000000";
    assert_eq!(shown(&command.into()), ["v=1", id, "expires_at=5", "attempt=1", "outbox_seq=7"]);
    let body = Bytes::from_static(b"{}");
    let event =
        EventRecord { device_id: String::new(), kind: "rollout_progress", outbox_seq: -1, body };
    assert_eq!(shown(&event.into()), ["v=1", "type=rollout_progress", "outbox_seq=-1"]);
}

#[test]
fn of_a_header_that_is_there_twice_the_last_counts() {
    let mut entry = Entry::from(record());
    entry.headers.push((Bytes::from_static(b"kind"), Bytes::from_static(b"heartbeat")));
    assert_eq!(Record::try_from(&entry).map(|r| r.headers.kind), Ok(Kind::Heartbeat));
    // Not even a good one before helps an unreadable one.
    entry.headers.push((Bytes::from_static(b"kind"), Bytes::from_static(b"\xff")));
    assert_eq!(Record::try_from(&entry), Err(BadEntry("kind")));
}

#[test]
fn a_header_that_can_not_be_read_is_as_bad_as_none() {
    let with = |name: &'static str, value: &'static [u8]| {
        let mut entry = without(Entry::from(record()), name);
        entry.headers.push((Bytes::from_static(name.as_bytes()), Bytes::from_static(value)));
        Record::try_from(&entry)
    };
    for value in [&b""[..], b" 1", b"1.0", b"1x", b"9223372036854775808", b"\xff"] {
        assert_eq!(
            with("received_at", value),
            Err(BadEntry("received_at")),
            "{}",
            value.escape_ascii()
        );
    }
    for value in [&b""[..], b"Status", b"status "] {
        assert_eq!(with("kind", value), Err(BadEntry("kind")), "{}", value.escape_ascii());
    }
    // Only `1` means yes, so that a header `retained: 0` of another writer is no.
    for value in [&b"0"[..], b"", b"true", b"11"] {
        assert_eq!(with("retained", value).map(|r| r.headers.retained), Ok(false));
    }
    let said = Record::try_from(&Entry::default()).expect_err("no record").to_string();
    assert_eq!(said, "not a record of this system: header `kind` is missing or unreadable");
}

#[test]
fn a_refused_message_needs_its_reason_length_and_digest() {
    let mut record = record();
    record.headers.kind = Kind::Reject;
    record.headers.reject =
        Some(Reject { reason: Reason::TooLarge, length: u64::MAX, sha256: "ab".to_owned() });
    let entry = Entry::from(record.clone());
    assert_eq!(Record::try_from(&entry), Ok(record));
    for name in ["reason", "length", "sha256"] {
        assert_eq!(Record::try_from(&without(entry.clone(), name)), Err(BadEntry(name)));
    }
    let mut negative = without(entry, "length");
    negative.headers.push((Bytes::from_static(b"length"), Bytes::from_static(b"-1")));
    assert_eq!(Record::try_from(&negative), Err(BadEntry("length")));
}

#[test]
fn the_size_of_an_entry_counts_everything_that_is_stored() {
    let entry = Entry {
        key: Bytes::from_static(b"d1"),
        value: Bytes::from_static(b"{}"),
        headers: vec![(Bytes::from_static(b"v"), Bytes::from_static(b"1"))],
    };
    assert_eq!((entry.size(), Entry::default().size()), (22, 10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_record_survives_the_log(
        (key, value, topic) in (any::<Vec<u8>>(), any::<Vec<u8>>(), any::<Vec<u8>>()),
        kind in proptest::sample::select(Kind::ALL.to_vec()),
        (received_at, retained, length) in (any::<i64>(), any::<bool>(), any::<u64>()),
        (resolved_ts, offset) in (any::<Option<i64>>(), any::<Option<i64>>()),
    ) {
        let reject = Reject { reason: Reason::Empty, length, sha256: "00".to_owned() };
        let replay_of =
            offset.map(|offset| Identity { epoch: 1, partition: i32::MAX, offset, item: -1 });
        let record = Record {
            key: key.into(),
            value: value.into(),
            headers: Headers {
                kind,
                topic: topic.into(),
                received_at,
                retained,
                reject: (kind == Kind::Reject).then_some(reject),
                replay_of,
                resolved_ts,
            },
        };
        prop_assert_eq!(read(&record), Ok(record));
    }
}
