//! Payloads: what is taken, what is not, and that no bytes end in a panic.

use super::*;
use proptest::prelude::*;

fn fault(kind: Kind, json: &str) -> (Reason, String) {
    let (reason, detail) = parse(kind, "d1", json.as_bytes()).expect_err(json);
    (reason, detail.unwrap_or_default())
}

#[test]
fn status_as_text_in_any_case_and_as_json() {
    for (text, want) in [
        ("online", Connection::Online),
        (" OffLine\n", Connection::Offline),
        (r#"{"status":"offline","reason":"lwt","ts":1}"#, Connection::Offline),
    ] {
        let Ok(Payload::Status(status)) = parse(Kind::Status, "d1", text.as_bytes()) else {
            panic!("{text}")
        };
        assert_eq!(status.status, want);
    }
    assert_eq!(fault(Kind::Status, "away").0, Reason::NotJson);
    assert_eq!(fault(Kind::Status, r#"{"status":"away"}"#), (Reason::WrongType, "status".into()));
}

#[test]
fn the_field_at_fault_is_named() {
    let wrong = |kind, json| fault(kind, json);
    assert_eq!(wrong(Kind::Heartbeat, r#"{"ts":"x"}"#), (Reason::BadTs, "ts".into()));
    assert_eq!(wrong(Kind::Heartbeat, "{}"), (Reason::NoTs, String::new()));
    assert_eq!(wrong(Kind::Heartbeat, r#"{"boot":1,"uptime_ms":5}"#).0, Reason::ClockUnset);
    assert_eq!(
        wrong(Kind::Heartbeat, r#"{"ts":1e9,"boot":"many"}"#),
        (Reason::WrongType, "boot".into())
    );
    assert_eq!(wrong(Kind::Resp, r#"{"status":"ack"}"#), (Reason::WrongType, "request_id".into()));
    assert_eq!(wrong(Kind::Alerts, r#"{"type":"x"}"#), (Reason::NoTs, "ts".into()));
    assert_eq!(wrong(Kind::Alerts, r#"{"ts":1e9,"type":3}"#), (Reason::WrongType, "type".into()));
    assert_eq!(wrong(Kind::Register, r#"{"imei":"1"}"#), (Reason::BadDeviceId, "device_id".into()));
    assert_eq!(
        wrong(Kind::Heartbeat, r#"{"ts":1e9,"device_id":"d2"}"#),
        (Reason::IdMismatch, "d2".into())
    );
    assert_eq!(wrong(Kind::Heartbeat, "[1]").0, Reason::NotJson);
    assert_eq!(wrong(Kind::Heartbeat, "").0, Reason::Empty);
}

#[test]
fn a_registration_names_its_device() {
    assert_eq!(registering_device(br#"{"device_id":"a-1"}"#).as_deref(), Some("a-1"));
    for bad in [&b"{}"[..], b"", br#"{"device_id":7}"#, br#"{"device_id":"a/b"}"#] {
        assert_eq!(registering_device(bad), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in Kind::ALL {
            let _ = parse(kind, "d1", &bytes);
        }
        let _ = registering_device(&bytes);
    }
}
