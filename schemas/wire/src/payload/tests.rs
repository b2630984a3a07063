//! Payloads: what is taken, what is not, and that no bytes end in a panic.

use super::*;
use crate::{
    dead_letter::Reason,
    kind::{DeviceKind, Kind},
    time,
};
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

fn registration(json: &str) -> Registration {
    match parse(Kind::Register, "d1", json.as_bytes()) {
        Ok(Payload::Registration(registration)) => registration,
        other => panic!("{json}: {other:?}"),
    }
}

/// As a float the number would lose its last digits, and the SIM would be another one.
#[test]
fn an_iccid_keeps_its_digits_beside_a_word_for_a_number() {
    let json = r#"{"device_id":"d1","iccid":89270000000000000015,"vbat":nan,"boot":3.0}"#;
    let registration = registration(json);
    assert_eq!(registration.iccid.as_deref(), Some("89270000000000000015"));
    assert_eq!(
        (registration.boot, &registration.extra["vbat"]),
        (Some(3), &serde_json::Value::Null)
    );
    assert_eq!(registration.extra[ODD]["vbat"], "nan");
}

#[test]
fn of_a_field_that_is_there_twice_the_last_counts() {
    let twice = registration(
        r#"{"device_id":"d1","iccid":1,"iccid":89270000000000000015,"boot":1,"boot":2}"#,
    );
    assert_eq!(twice.iccid.as_deref(), Some("89270000000000000015"));
    assert_eq!(twice.boot, Some(2));
}

#[test]
fn counters_end_where_their_column_does() {
    for (name, most) in [
        ("heartbeat_interval_s", 4_294_967_295_u64),
        ("uptime_ms", 9_223_372_036_854_775_807),
        ("boot", 9_223_372_036_854_775_807),
    ] {
        let beat = heartbeat(&format!(r#"{{"ts":1778951132,"{name}":{most}}}"#));
        let json = serde_json::to_value(&beat).expect("JSON");
        assert_eq!((json[name].as_u64(), json.get(ODD)), (Some(most), None), "{name}");
        for beyond in
            [format!("{}", u128::from(most) + 1), "-1".into(), "1e300".into(), "0.5".into()]
        {
            let beat = heartbeat(&format!(r#"{{"ts":1778951132,"{name}":{beyond}}}"#));
            let json = serde_json::to_value(&beat).expect("JSON");
            assert_eq!(json[name], serde_json::Value::Null, "{name} {beyond}");
            assert!(json[ODD][name].is_string(), "{json}");
        }
    }
}

#[test]
fn a_packet_limit_of_four_gigabytes_is_odd() {
    let most = registration(r#"{"device_id":"d1","max_packet_bytes":4294967295,"protocol":1}"#);
    assert_eq!((most.max_packet_bytes, most.protocol), (Some(u32::MAX), Some(1)));
    let beyond = registration(r#"{"device_id":"d1","max_packet_bytes":4294967296}"#);
    assert_eq!(
        (beyond.max_packet_bytes, &beyond.extra[ODD]["max_packet_bytes"]),
        (None, &serde_json::json!("4294967296"))
    );
}

#[test]
fn the_id_of_the_topic_counts_and_another_one_is_named() {
    assert!(
        parse(Kind::Heartbeat, "d1", b"{\"ts\":1778951132,\"device_id\":\" d1\\u0000\"}").is_ok()
    );
    for (given, reason, detail) in [
        ("\"D1\"", Reason::IdMismatch, "D1"),
        ("\"\"", Reason::IdMismatch, ""),
        ("null", Reason::WrongType, "device_id"),
        ("1", Reason::WrongType, "device_id"),
        ("[\"d1\"]", Reason::WrongType, "device_id"),
    ] {
        let json = format!("{{\"ts\":1778951132,\"device_id\":{given}}}");
        assert_eq!(fault(Kind::Heartbeat, &json), (reason, detail.to_owned()), "{given}");
    }
    let long = format!("{{\"ts\":1,\"device_id\":\"{}\"}}", "ü".repeat(100));
    assert_eq!(fault(Kind::Alerts, &long).1, "ü".repeat(64));
}

#[test]
fn kinds_without_a_payload_of_this_form_are_refused() {
    for kind in [Kind::Telemetry, Kind::Reject, Kind::Sent, Kind::Pulse] {
        assert_eq!(fault(kind, "{\"ts\":1778951132}").0, Reason::NotJson, "{kind}");
    }
    for kind in DeviceKind::ALL.map(Kind::from) {
        for nothing in ["", " \r\n", "\0\0", "\u{feff}"] {
            assert_eq!(fault(kind, nothing), (Reason::Empty, String::new()), "{kind}");
        }
    }
}

/// The place counts from the first byte of the message, padding included.
#[test]
fn the_place_of_a_fault_is_one_in_the_whole_message() {
    let (reason, detail) = parse(Kind::Status, "d1", b"\0\0{\"a\":@}").expect_err("no JSON");
    assert_eq!((reason, detail.as_deref()), (Reason::NotJson, Some("byte 7: 40 7d (@})")));
    let (reason, detail) = parse(Kind::Status, "d1", b" {\"a\":\"\xff\"}").expect_err("no text");
    assert_eq!(
        (reason, detail.as_deref()),
        (Reason::NotUtf8, Some("byte 7: ff 22 7d (\\xff\\\"})"))
    );
}

#[test]
fn an_alert_says_when_and_what_and_the_rest_may_be_absent() {
    let alert = |json: &str| match parse(Kind::Alerts, "d1", json.as_bytes()) {
        Ok(Payload::Alert(alert)) => alert,
        other => panic!("{json}: {other:?}"),
    };
    let least = alert(r#"{"ts":1778951132,"type":"x"}"#);
    assert_eq!((least.severity, least.state, least.value, least.phase()), (None, None, None, ""));
    let full = alert(
        r#"{"ts":1778951132,"type":"overvoltage","severity":"critical","state":"cleared",
            "message":"m","value":256.1,"threshold":253,"metadata":{"phase":"l1"},"more":[1]}"#,
    );
    assert_eq!((full.severity, full.state), (Some(Severity::Critical), Some(AlertState::Cleared)));
    assert_eq!((full.value, full.threshold, full.phase()), (Some(256.1), Some(253.0), "l1"));
    assert_eq!(full.extra["more"], serde_json::json!([1]));
    assert_eq!(alert(r#"{"ts":1778951132,"type":"x","metadata":{"phase":1}}"#).phase(), "");
    assert_eq!(alert(r#"{"ts":1778951132,"type":"x","value":nan}"#).value, None);
    for (json, field) in [
        (r#"{"ts":1778951132,"type":"x","severity":"Critical"}"#, "severity"),
        (r#"{"ts":1778951132,"type":"x","state":"open"}"#, "state"),
        (r#"{"ts":1778951132,"type":"x","value":"256"}"#, "value"),
        (r#"{"ts":1778951132,"type":"x","message":5}"#, "message"),
        (r#"{"ts":1778951132,"type":null}"#, "type"),
    ] {
        assert_eq!(fault(Kind::Alerts, json), (Reason::WrongType, field.to_owned()), "{json}");
    }
}

#[test]
fn an_answer_needs_its_command_and_one_of_three_words() {
    for (word, status) in [
        ("ack", ResponseStatus::Ack),
        ("success", ResponseStatus::Success),
        ("error", ResponseStatus::Error),
    ] {
        let json =
            format!(r#"{{"request_id":"r","status":"{word}","data":{{"a":1}},"error":"e"}}"#);
        let Ok(Payload::Response(answer)) = parse(Kind::Resp, "d1", json.as_bytes()) else {
            panic!("{json}")
        };
        assert_eq!((answer.status, answer.request_id.as_str()), (status, "r"));
        assert_eq!(
            (answer.error.as_deref(), &answer.extra["data"]["a"]),
            (Some("e"), &serde_json::json!(1))
        );
    }
    for (json, field) in [
        (r#"{"request_id":"r"}"#, "status"),
        (r#"{"request_id":"r","status":"done"}"#, "status"),
        (r#"{"request_id":7,"status":"ack"}"#, "request_id"),
        (r#"{"request_id":"r","status":"ack","error":{}}"#, "error"),
    ] {
        assert_eq!(fault(Kind::Resp, json), (Reason::WrongType, field.to_owned()), "{json}");
    }
}

#[test]
fn words_for_numbers_are_null_at_any_depth_and_the_first_level_is_reported() {
    let beat = heartbeat(r#"{"ts":1778951132,"temp":-inf,"modbus":{"ok":nan},"list":[1,ovf]}"#);
    let json = serde_json::Value::Object(beat.extra);
    let want = serde_json::json!({
        "temp": null, "modbus": { "ok": null }, "list": [1, null], ODD: { "temp": "-inf" }
    });
    assert_eq!(json, want);
}

#[test]
fn the_signal_is_what_the_device_says_or_its_modem() {
    let signal = |more: &str| heartbeat(&format!(r#"{{"ts":1778951132{more}}}"#)).signal_dbm();
    for (more, want) in [
        ("", None),
        (r#","signal_strength":-61,"csq":10"#, Some(-61)),
        (r#","csq":0"#, Some(-113)),
        (r#","csq":31"#, Some(-51)),
        (r#","csq":32"#, None),
        (r#","csq":99"#, None),
        (r#","csq":-1"#, None),
        (r#","csq":15.0"#, Some(-83)),
        (r#","signal_strength":"good","csq":20"#, Some(-73)),
    ] {
        assert_eq!(signal(more), want, "{more}");
    }
}

#[test]
fn a_time_is_plausible_from_2020_to_the_limit_ahead() {
    let arrival = 1_778_951_132 * time::SECOND;
    let check = |ts| check_clock(ts, arrival, time::DAY).map_err(|fault| fault.0);
    assert_eq!(check(time::YEAR_2020), Ok(()));
    assert_eq!(check(time::YEAR_2020 - 1), Err(Reason::TsBefore2020));
    assert_eq!(check(arrival + time::DAY), Ok(()));
    assert_eq!(check(arrival + time::DAY + 1), Err(Reason::TsInFuture));
    assert_eq!(check_clock(i64::MAX, i64::MAX, 1), Ok(()), "no overflow");
}

#[test]
fn a_time_of_the_device_is_shown_in_utc() {
    let time = |json: &str| serde_json::from_str::<EventTime>(json).map_err(|e| e.to_string());
    for json in ["1778951132", "1778951132000", "1778951132.0", "\"2026-05-16T19:05:32+0200\""] {
        let read = time(json).expect("a time");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), "\"2026-05-16T17:05:32.000Z\"");
    }
    assert!(time("1e300").expect_err("none").contains("beyond any calendar"));
    assert!(time("\"soon\"").expect_err("none").contains("\"soon\" can't be read"));
    for other in ["true", "null", "[]", "{}"] {
        assert!(time(other).is_err(), "{other}");
    }
}

#[test]
fn a_severity_comes_back_by_name_and_they_are_ordered() {
    assert!(Severity::Info < Severity::Warning && Severity::Warning < Severity::Critical);
    assert_eq!(Severity::default(), Severity::Warning);
    for name in ["info", "warning", "critical"] {
        let severity = Severity::parse(name).expect("a severity");
        assert_eq!(severity.as_str(), name);
        assert_eq!(serde_json::to_value(severity).expect("JSON"), name);
    }
    for bad in ["", "Info", "fatal"] {
        assert_eq!(Severity::parse(bad), None, "{bad}");
    }
}

#[test]
fn the_id_of_a_registration_is_found_whatever_its_other_fields_are() {
    for good in [
        &b"{\"device_id\":\"a-1\",\"boot\":nan}"[..],
        b"{\"imei\":{},\"device_id\":\"a-1\\u0000\"}",
        b"\xef\xbb\xbf{\"device_id\":\"a-1\"}\r\n",
    ] {
        assert_eq!(registering_device(good).as_deref(), Some("a-1"), "{}", good.escape_ascii());
    }
    let long = format!("{{\"device_id\":\"{}\"}}", "a".repeat(33));
    for bad in
        [long.as_bytes(), b"[\"a-1\"]", b"{\"device_id\":nan}", b"{\"device_id\":\"\"}", b"\xff"]
    {
        assert_eq!(registering_device(bad), None, "{}", bad.escape_ascii());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whole_numbers_mean_the_same_in_every_form(boot in 1_u64..1_000_000_000, zeros in 1_usize..40) {
        for written in [
            boot.to_string(),
            format!("{boot}.{}", "0".repeat(zeros)),
            format!("{boot}e0"),
            format!("{boot}0E-1"),
            format!("{boot}.0e+0"),
        ] {
            let beat = heartbeat(&format!(r#"{{"ts":1778951132,"boot":{written}}}"#));
            prop_assert_eq!(beat.boot, Some(boot), "{}", written);
        }
    }

    #[test]
    fn padding_changes_no_payload(before in "[\0 \r\n\u{feff}\u{1a}]{0,6}", after in "[\0 \r\n\u{feff}\u{1a}]{0,6}") {
        let plain = r#"{"ts":1778951132,"boot":3,"x":"y"}"#;
        prop_assert_eq!(heartbeat(&format!("{before}{plain}{after}")), heartbeat(plain));
    }
}
