use super::*;
use acuvim_wire::Position;
use arrow::array::{Array as _, AsArray as _, Int64Array};

#[test]
fn every_column_gets_its_own_value() {
    let heartbeat: Heartbeat = serde_json::from_str(
        r#"{"ts":1778951132,"heartbeat_interval_s":60,"firmware_version":"1.2.0","hardware":"T",
            "uptime_ms":5,"boot":17,"meter_serial":"AH1","reset_reason":9,"free_heap":1,
            "min_free_heap":2,"connection_type":"wifi","signal_strength":-61,
            "ip_address":"10.0.0.1","modbus":{"ok":3,"errors":4},
            "sd":{"present":true,"free_mb":6,"pending":7},"mqtt_reconnects":8,
            "wifi_reconnects":9,"odd":[1]}"#,
    )
    .expect("a heartbeat");
    let facts = RecordFacts {
        device_id: "d",
        kind: "heartbeat",
        topic: "t",
        received_at: 1_778_951_133_000_000,
        epoch: 0,
        position: Position { partition: 1, offset: 2 },
    };
    let mut rows = HeartbeatRows::default();
    rows.push(&facts, 1_778_951_132_000_000, &heartbeat);
    let batch = rows.finish().expect("schema");
    let text = |name: &str| batch.column_by_name(name).map(|c| c.as_string::<i32>().value(0));
    let whole = |name: &str| {
        let column = batch.column_by_name(name).and_then(|c| c.as_any().downcast_ref());
        column.map(|c: &Int64Array| c.value(0))
    };
    assert_eq!(text("firmware_version"), Some("1.2.0"));
    assert_eq!(text("hardware"), Some("T"));
    assert_eq!(text("meter_serial"), Some("AH1"));
    assert_eq!(text("reset_reason"), Some("brownout"));
    assert_eq!(text("connection_type"), Some("wifi"));
    assert_eq!(text("ip_address"), Some("10.0.0.1"));
    assert_eq!(text("extra"), Some(r#"{"odd":[1]}"#));
    let wholes = [
        ("heartbeat_interval_s", 60),
        ("uptime_ms", 5),
        ("boot", 17),
        ("free_heap", 1),
        ("min_free_heap", 2),
        ("signal_strength", -61),
        ("modbus_ok", 3),
        ("modbus_errors", 4),
        ("sd_free_mb", 6),
        ("sd_pending", 7),
        ("mqtt_reconnects", 8),
        ("wifi_reconnects", 9),
    ];
    for (name, value) in wholes {
        assert_eq!(whole(name), Some(value), "{name}");
    }
}

fn row(json: &str) -> RecordBatch {
    let heartbeat: Heartbeat = serde_json::from_str(json).expect("a heartbeat");
    let facts = RecordFacts {
        device_id: "d1",
        kind: "heartbeat",
        topic: "t",
        received_at: 1_778_976_001_000_000,
        epoch: 2,
        position: Position { partition: 3, offset: 4 },
    };
    let mut rows = HeartbeatRows::default();
    rows.push(&facts, 1_778_975_999_999_999, &heartbeat);
    rows.finish().expect("schema")
}

fn extra(json: &str) -> Option<Value> {
    let batch = row(json);
    let column = batch.column_by_name("extra").expect("extra").as_string::<i32>();
    column.is_valid(0).then(|| serde_json::from_str(column.value(0)).expect("JSON"))
}

/// PROTOCOL.md: unknown fields are kept, never dropped.
#[test]
fn no_field_is_lost_beside_those_with_a_column() {
    for (json, want) in [
        (r#"{"modbus":{"ok":1,"errors":2,"timeouts":3}}"#, r#"{"modbus":{"timeouts":3}}"#),
        (r#"{"sd":{"present":true,"total_mb":8000}}"#, r#"{"sd":{"total_mb":8000}}"#),
        (r#"{"ok":1,"present":2}"#, r#"{"ok":1,"present":2}"#),
        (r#"{"modbus":[1],"sd":"none"}"#, r#"{"modbus":[1],"sd":"none"}"#),
        (r#"{"x":null}"#, r#"{"x":null}"#),
    ] {
        assert_eq!(extra(json), Some(serde_json::from_str(want).expect("JSON")), "{json}");
    }
}

#[test]
fn a_value_that_its_column_can_not_hold_is_kept_aside() {
    for json in [
        r#"{"free_heap":"lots"}"#,
        r#"{"signal_strength":-61.5}"#,
        r#"{"reset_reason":{"code":9}}"#,
        r#"{"ip_address":7,"connection_type":["wifi"]}"#,
        r#"{"sd":{"present":"yes","free_mb":1.5}}"#,
        r#"{"modbus":{"ok":"many"}}"#,
    ] {
        assert_eq!(extra(json), Some(serde_json::from_str(json).expect("JSON")), "{json}");
    }
}

#[test]
fn what_has_its_column_or_says_nothing_is_not_repeated() {
    for json in [
        "{}",
        r#"{"free_heap":null,"reset_reason":null,"ip_address":null}"#,
        r#"{"device_id":"d1","csq":15,"reset_reason":9.0,"connection_type":"wifi"}"#,
        r#"{"modbus":{},"sd":{"present":false,"free_mb":0.0,"pending":null}}"#,
    ] {
        assert_eq!(extra(json), None, "{json}");
    }
}

#[test]
fn the_day_is_that_of_the_heartbeat_and_the_identity_that_of_its_record() {
    use arrow::datatypes::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType};
    let batch = row(r#"{"uptime_ms":18446744073709551615,"sd":{"present":false}}"#);
    let column = |name: &str| batch.column_by_name(name).expect(name);
    let time = |name: &str| column(name).as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(["ts", "received_at"].map(time), [1_778_975_999_999_999, 1_778_976_001_000_000]);
    assert_eq!(column("date").as_primitive::<Date32Type>().value(0), 20_589);
    let number = |name: &str| column(name).as_primitive::<Int32Type>().value(0);
    assert_eq!(["epoch", "partition", "item"].map(number), [2, 3, 0]);
    assert_eq!(column("offset").as_primitive::<Int64Type>().value(0), 4);
    assert!(!column("sd_present").as_boolean().value(0) && column("sd_present").is_valid(0));
    // Beyond the column: unknown, rather than a negative number.
    assert!(column("uptime_ms").is_null(0));
}

#[test]
fn rows_stay_in_order_and_values_with_their_row() {
    let mut rows = HeartbeatRows::default();
    let facts = RecordFacts {
        device_id: "d1",
        kind: "heartbeat",
        topic: "t",
        received_at: 1,
        epoch: 0,
        position: Position { partition: 0, offset: 0 },
    };
    for json in [r#"{"boot":1}"#, "{}", r#"{"boot":3,"ip_address":" 10.0.0.1 "}"#] {
        rows.push(&facts, 1, &serde_json::from_str(json).expect("a heartbeat"));
    }
    let batch = rows.finish().expect("schema");
    let boots = batch.column_by_name("boot").expect("boot");
    let boots: Vec<_> = boots.as_primitive::<arrow::datatypes::Int64Type>().iter().collect();
    assert_eq!(boots, [Some(1), None, Some(3)]);
    let addresses = batch.column_by_name("ip_address").expect("ip_address").as_string::<i32>();
    assert_eq!(addresses.iter().collect::<Vec<_>>(), [None, None, Some("10.0.0.1")]);
    assert_eq!(rows.finish().expect("schema").num_rows(), 0);
}
