use super::*;

#[test]
fn the_payload_is_what_the_protocol_says() {
    let payload = Command::payload(Uuid::nil(), "ping", &Map::new(), 1_795_459_200_999_999);
    let json: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(json["expires_at"], 1_795_459_200);
    assert_eq!(json["command"], "ping");
    // 1 + 1 + (2 + 13) + 2 + 6 + 2 bytes.
    assert_eq!(packet_bytes("acuvim/d1/cmd", "{}"), 27);
    assert_eq!(packet_bytes("t", &"x".repeat(117)), 131, "two bytes of length from 128 on");
}

/// A packet that is a byte larger than the device takes is lost without a trace.
#[test]
fn the_length_of_a_packet_grows_by_a_byte_where_mqtt_says() {
    for (payload, bytes) in [
        (116, 1 + 1 + 127),
        (117, 1 + 2 + 128),
        (16_372, 1 + 2 + 16_383),
        (16_373, 1 + 3 + 16_384),
        (2_097_140, 1 + 3 + 2_097_151),
        (2_097_141, 1 + 4 + 2_097_152),
    ] {
        assert_eq!(packet_bytes("t", &"x".repeat(payload)), bytes, "{payload}");
    }
    // Bytes count, not characters.
    assert_eq!(packet_bytes("t", "ü"), packet_bytes("t", "xy"));
}

#[test]
fn parameters_are_sent_as_they_were_given() {
    let Value::Object(params) = json!({ "values": [1, 2], "note": "ü\"\n", "n": null }) else {
        panic!("an object")
    };
    let payload = Command::payload(Uuid::max(), "modbus_write", &params, 999_999);
    let sent: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(sent["params"], Value::Object(params));
    assert_eq!(sent["request_id"], "ffffffff-ffff-ffff-ffff-ffffffffffff");
    // A part of a second does not count as one: the device must not run it late.
    assert_eq!(sent["expires_at"], 0);
    assert!(!payload.contains([' ', '\n']), "{payload}");
}

#[test]
fn a_report_of_ingest_is_read_back_and_no_other_outcome_is() {
    for (outcome, name) in [(Outcome::Sent, "sent"), (Outcome::NoSubscriber, "no_subscriber")] {
        let delivery = Delivery { request_id: Uuid::nil(), attempt: 2, outcome };
        let json = serde_json::to_value(delivery).expect("JSON");
        let want = json!({ "request_id": Uuid::nil(), "attempt": 2, "outcome": name });
        assert_eq!(json, want);
        assert_eq!(serde_json::from_value::<Delivery>(json).expect("a report"), delivery);
    }
    let other = json!({ "request_id": Uuid::nil(), "attempt": 2, "outcome": "lost" });
    assert!(serde_json::from_value::<Delivery>(other).is_err());
}
