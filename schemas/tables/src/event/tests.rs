use super::*;
use arrow::{
    array::{Array as _, AsArray as _},
    datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use serde_json::json;

fn alert_event(more: &serde_json::Value) -> Event {
    let mut event = json!({
        "event_id": "00000000-0000-0000-0000-000000000001", "step": "raised",
        "ts": "2026-05-16T23:59:59.999999Z", "recorded_at": "2026-05-17T00:00:01Z",
        "by": null, "note": null, "readings": [],
        "alert": {
            "id": "00000000-0000-0000-0000-000000000002", "device_id": "d1",
            "alert_type": "overvoltage", "severity": "critical", "message": "too much",
            "value": 256.1, "threshold": 253.0, "origin": "rule",
            "rule_id": "00000000-0000-0000-0000-000000000003", "rule_version": 4,
            "shadow": true, "backfilled": false, "silenced": true, "withdrawn": false,
            "acknowledged": false, "created_at": "2026-05-16T23:59:00Z",
            "raised_at": "2026-05-16T23:59:59Z",
            "incident_id": "00000000-0000-0000-0000-000000000005"
        }
    });
    for (key, value) in more.as_object().expect("an object") {
        event[key] = value.clone();
    }
    Event::Alert(Box::new(serde_json::from_value(event).expect("an event")))
}

fn device_event(more: &serde_json::Value) -> Event {
    let mut event = json!({
        "event_id": "00000000-0000-0000-0000-000000000006", "device_id": "d2", "event": "status",
        "ts": "2026-05-17T00:00:00Z", "recorded_at": "2026-05-17T00:00:02Z",
        "status": "offline", "previous": "degraded", "reason": "silent", "detail": { "a": [1] }
    });
    for (key, value) in more.as_object().expect("an object") {
        event[key] = value.clone();
    }
    Event::Device(Box::new(serde_json::from_value(event).expect("an event")))
}

fn text(batch: &RecordBatch, name: &str) -> Option<String> {
    let column = batch.column_by_name(name).expect(name).as_string::<i32>();
    column.is_valid(0).then(|| column.value(0).to_owned())
}

fn id(number: u32) -> Option<String> {
    Some(format!("00000000-0000-0000-0000-{number:012}"))
}

#[test]
fn each_value_of_an_alert_event_is_in_its_column() {
    let more = json!({ "by": "admin", "note": "seen", "readings": ["0:1:2:3", "0:1:2:4"] });
    let batch = rows(Table::AlertEvents, &[alert_event(&more)]).expect("schema");
    for (name, want) in [
        ("event_id", id(1)),
        ("alert_id", id(2)),
        ("device_id", Some("d1".into())),
        ("event", Some("raised".into())),
        ("alert_type", Some("overvoltage".into())),
        ("severity", Some("critical".into())),
        ("origin", Some("rule".into())),
        ("message", Some("too much".into())),
        ("rule_id", id(3)),
        ("incident_id", id(5)),
        ("by", Some("admin".into())),
        ("note", Some("seen".into())),
        ("readings", Some(r#"["0:1:2:3","0:1:2:4"]"#.into())),
    ] {
        assert_eq!(text(&batch, name), want, "{name}");
    }
    let column = |name: &str| batch.column_by_name(name).expect(name);
    let real = |name: &str| column(name).as_primitive::<Float64Type>().value(0);
    assert_eq!(["value", "threshold"].map(real), [256.1, 253.0]);
    assert_eq!(column("rule_version").as_primitive::<Int64Type>().value(0), 4);
    let flag = |name: &str| column(name).as_boolean().value(0);
    assert_eq!(["shadow", "silenced", "backfilled"].map(flag), [true, true, false]);
    let time = |name: &str| column(name).as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(["ts", "recorded_at"].map(time), [1_778_975_999_999_999, 1_778_976_001_000_000]);
    // The day is that of the event, not of its arrival.
    assert_eq!(column("date").as_primitive::<Date32Type>().value(0), 20_589);
}

#[test]
fn what_an_alert_has_not_is_null() {
    let mut event = alert_event(&json!({}));
    if let Event::Alert(event) = &mut event {
        event.alert.device_id = None;
        event.alert.value = None;
        event.alert.threshold = None;
        event.alert.rule_id = None;
        event.alert.rule_version = None;
        event.alert.incident_id = None;
    }
    let batch = rows(Table::AlertEvents, &[event]).expect("schema");
    for name in [
        "device_id",
        "value",
        "threshold",
        "rule_id",
        "rule_version",
        "incident_id",
        "by",
        "note",
        "readings",
    ] {
        assert!(batch.column_by_name(name).expect(name).is_null(0), "{name}");
    }
}

#[test]
fn each_value_of_a_device_event_is_in_its_column() {
    let batch = rows(Table::DeviceEvents, &[device_event(&json!({}))]).expect("schema");
    for (name, want) in [
        ("event_id", id(6)),
        ("device_id", Some("d2".into())),
        ("event", Some("status".into())),
        ("status", Some("offline".into())),
        ("previous", Some("degraded".into())),
        ("reason", Some("silent".into())),
        ("detail", Some(r#"{"a":[1]}"#.into())),
    ] {
        assert_eq!(text(&batch, name), want, "{name}");
    }
    let day = batch.column_by_name("date").expect("date").as_primitive::<Date32Type>().value(0);
    assert_eq!(day, 20_590);
    let none = json!({ "status": null, "previous": null, "reason": null, "detail": null });
    let batch = rows(Table::DeviceEvents, &[device_event(&none)]).expect("schema");
    for name in ["status", "previous", "reason", "detail"] {
        assert_eq!(text(&batch, name), None, "{name}");
    }
}

#[test]
fn events_go_to_their_own_table_in_order() {
    let more = |id: u32| json!({ "event_id": format!("00000000-0000-0000-0000-{id:012}") });
    let events = [
        alert_event(&more(11)),
        device_event(&more(12)),
        alert_event(&more(13)),
        device_event(&more(14)),
    ];
    for (table, first, second) in [(Table::AlertEvents, 11, 13), (Table::DeviceEvents, 12, 14)] {
        let batch = rows(table, &events).expect("schema");
        let ids = batch.column_by_name("event_id").expect("ids").as_string::<i32>();
        let ids: Vec<Option<String>> = ids.iter().map(|id| id.map(str::to_owned)).collect();
        assert_eq!(ids, [id(first), id(second)], "{}", table.name());
    }
    for table in Table::ALL.into_iter().filter(|table| !Table::EVENTS.contains(table)) {
        let batch = rows(table, &events).expect("schema");
        assert_eq!((batch.num_rows(), batch.schema()), (0, table.schema()), "{}", table.name());
    }
}
