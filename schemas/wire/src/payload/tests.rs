//! Payloads: what is taken, what is not, and that no bytes end in a panic.

use super::*;
use crate::{dead_letter::Reason, kind::Kind};
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
    for padded in [&b"online\0"[..], b"\xef\xbb\xbf{\"status\":\"online\"}\0\0"] {
        let Ok(Payload::Status(status)) = parse(Kind::Status, "d1", padded) else {
            panic!("{}", padded.escape_ascii())
        };
        assert_eq!(status.status, Connection::Online);
    }
    assert_eq!(fault(Kind::Status, "away"), (Reason::NotJson, "byte 0: 61 77 61 79 (away)".into()));
    assert_eq!(fault(Kind::Status, r#"{"status":"away"}"#), (Reason::WrongType, "status".into()));
}

#[test]
fn the_field_at_fault_is_named() {
    let wrong = |kind, json| fault(kind, json);
    let (reason, detail) = wrong(Kind::Heartbeat, r#"{"ts":"2026-05-16T17:05:32"}"#);
    assert_eq!(reason, Reason::BadTs);
    assert!(detail.starts_with("ts: no time") && detail.contains("+0200"), "{detail}");
    assert_eq!(wrong(Kind::Heartbeat, r#"{"ts":{}}"#), (Reason::WrongType, "ts".into()));
    assert_eq!(wrong(Kind::Heartbeat, "{}"), (Reason::NoTs, String::new()));
    assert_eq!(wrong(Kind::Heartbeat, r#"{"boot":1,"uptime_ms":5}"#).0, Reason::ClockUnset);
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

fn heartbeat(json: &str) -> Heartbeat {
    match parse(Kind::Heartbeat, "d1", json.as_bytes()) {
        Ok(Payload::Heartbeat(heartbeat)) => heartbeat,
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn whole_numbers_as_c_prints_them() {
    let beat = heartbeat(
        r#"{"ts":"2026-05-16T19:05:32+0200","uptime_ms":86400000.0,"boot":1.7e1,"heartbeat_interval_s":60.0,
            "free_heap":142000.0,"signal_strength":-61.0}"#,
    );
    assert_eq!((beat.uptime_ms, beat.boot), (Some(86_400_000), Some(17)));
    assert_eq!((beat.heartbeat_interval_s, beat.signal_dbm()), (Some(60), Some(-61)));
    assert_eq!(beat.ts, Some(EventTime(1_778_951_132_000_000)));
    assert_eq!(beat.extra.get("free_heap").and_then(whole), Some(142_000));
}

#[test]
fn an_odd_field_or_a_word_for_a_number_does_not_cost_the_heartbeat() {
    let beat = heartbeat(
        r#"{"ts":1778951132,"boot":"many","uptime_ms":1.5,"hardware":"T\u0000x","meter_serial":"AH1\u0000",
            "modbus":{"ok":nan,"errors":3},"free_heap":nan}"#,
    );
    assert_eq!((beat.boot, beat.uptime_ms, &beat.hardware), (None, None, &None));
    assert_eq!(beat.meter_serial.as_deref(), Some("AH1"));
    let odd = beat.extra.get(ODD).expect("kept aside");
    for name in ["boot", "uptime_ms", "hardware"] {
        assert!(odd[name].is_string(), "{odd}");
    }
    assert_eq!(heartbeat(r#"{"ts":1778951132,"meter_serial":""}"#).meter_serial, None);
}

#[test]
fn a_clock_that_was_never_set_is_none() {
    for unset in ["null", "0", "17.5", r#""1970-01-01T02:00:17+0200""#] {
        let json = format!(r#"{{"ts":{unset},"boot":3,"uptime_ms":17500}}"#);
        assert_eq!(fault(Kind::Heartbeat, &json).0, Reason::ClockUnset, "{unset}");
    }
    assert_eq!(heartbeat(r#"{"ts":0}"#).ts, Some(EventTime(0)), "judged with its arrival");
}

#[test]
fn an_iccid_that_is_a_number_keeps_its_digits() {
    let json = br#"{"device_id":"d1\u0000","iccid":89270000000000000015,"imei":351234567890123}"#;
    let Ok(Payload::Registration(registration)) = parse(Kind::Register, "d1", json) else {
        panic!("a registration")
    };
    assert_eq!(registration.iccid.as_deref(), Some("89270000000000000015"));
    assert_eq!(registration.imei.as_deref(), Some("351234567890123"));
}

#[test]
fn a_registration_names_its_device() {
    assert_eq!(registering_device(br#"{"device_id":"a-1"}"#).as_deref(), Some("a-1"));
    assert_eq!(registering_device(b"{\"device_id\":\"a-1 \"}\0").as_deref(), Some("a-1"));
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
