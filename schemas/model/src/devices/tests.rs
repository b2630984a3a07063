use super::*;
use serde_json::{Value, json};

fn device() -> Value {
    json!({
        "device_id": "d1", "name": "Feeder 2", "description": null, "mac_address": "AA:BB:CC:DD:EE:FF",
        "imei": null, "iccid": null, "hardware": "T-Call", "firmware_version": "1.2.0",
        "capabilities": ["wifi"], "meter_serial": "AH1", "max_packet_bytes": 1024, "status": "online",
        "status_at": "2026-05-16T17:05:00Z", "registered": true, "enabled": true, "connected": null,
        "heard_at": "2026-05-16T17:05:01Z", "last_heartbeat": "2026-05-16T17:05:02Z",
        "heartbeat_interval_s": 60, "last_telemetry": "2026-05-16T17:05:03Z",
        "connection_type": "wifi", "signal_strength": -61, "ip_address": "10.0.0.1",
        "boot_count": 17, "uptime_ms": 5, "group_id": "00000000-0000-0000-0000-000000000001",
        "tags": ["roof"], "nominal_voltage_v": 230.0, "nominal_frequency_hz": 50.0,
        "max_power_kw": 630.0, "counter_end": 1_000_000.0, "time_zone": "Africa/Johannesburg",
        "replaces": null, "replaced_by": null, "replaced_at": null,
        "created_at": "2026-05-01T00:00:00Z", "updated_at": "2026-05-02T00:00:00Z"
    })
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

/// An edit with every field.
fn full_edit() -> Value {
    json!({
        "name": "n", "description": "d", "group_id": "00000000-0000-0000-0000-000000000001",
        "tags": ["t"], "nominal_voltage_v": 230.0, "nominal_frequency_hz": 50.0,
        "max_power_kw": 1.0, "counter_end": 1000.0, "time_zone": "UTC", "enabled": false
    })
}

#[test]
fn a_device_shows_every_field_also_those_that_are_null() {
    let read: Device = serde_json::from_value(device()).expect("a device");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), device());
}

/// What was read can be sent back: each field is either one that can be set, or one that is ignored.
#[test]
fn every_field_can_be_set_or_is_read_only_and_never_both() {
    let edit = keys(&full_edit());
    for key in keys(&device()) {
        let read_only = Device::READ_ONLY.contains(&key.as_str());
        assert!(read_only != edit.contains(&key), "{key}");
    }
    for key in Device::READ_ONLY {
        assert!(device().get(key).is_some(), "{key} is no field of a device");
        let with = json!({ key: null });
        assert!(serde_json::from_value::<DeviceEdit>(with).is_err(), "{key}");
    }
}

#[test]
fn of_an_edit_what_is_absent_stays_and_what_is_null_is_emptied() {
    let none: DeviceEdit = serde_json::from_value(json!({})).expect("an edit");
    assert_eq!(none, DeviceEdit::default());
    assert_eq!(serde_json::to_value(&none).expect("JSON"), json!({}));
    for key in keys(&full_edit()).into_iter().filter(|key| key != "enabled") {
        let cleared = json!({ &key: null });
        let edit: DeviceEdit = serde_json::from_value(cleared.clone()).expect("an edit");
        assert_ne!(edit, DeviceEdit::default(), "{key}");
        assert_eq!(serde_json::to_value(&edit).expect("JSON"), cleared);
    }
    let full: DeviceEdit = serde_json::from_value(full_edit()).expect("an edit");
    assert_eq!(serde_json::to_value(&full).expect("JSON"), full_edit());
    assert_eq!((full.name, full.enabled), (Some(Some("n".to_owned())), Some(false)));
}

#[test]
fn an_edit_of_the_wrong_type_or_with_an_unknown_field_is_refused() {
    for bad in [
        json!({ "nmae": "x" }),
        json!({ "name": 5 }),
        json!({ "tags": "roof" }),
        json!({ "tags": [null] }),
        json!({ "group_id": "north" }),
        json!({ "nominal_voltage_v": "230" }),
        json!({ "enabled": "yes" }),
    ] {
        assert!(serde_json::from_value::<DeviceEdit>(bad.clone()).is_err(), "{bad}");
    }
}

/// The checks of an edit are those of a new device: a field that is missing here would never be checked.
#[test]
fn a_new_device_is_checked_in_every_field_that_it_has() {
    let mut body = full_edit();
    body.as_object_mut().expect("an object").remove("enabled");
    body["device_id"] = json!("d1");
    let new: NewDevice = serde_json::from_value(body.clone()).expect("a device");
    let mut edit = serde_json::to_value(new.as_edit()).expect("JSON");
    edit["device_id"] = json!("d1");
    assert_eq!(edit, body);
    let least: NewDevice = serde_json::from_value(json!({ "device_id": "d1" })).expect("a device");
    assert_eq!(least, NewDevice { device_id: "d1".into(), ..NewDevice::default() });
    for bad in [json!({}), json!({ "device_id": "d1", "enabled": true }), json!({ "device_id": 1 })]
    {
        assert!(serde_json::from_value::<NewDevice>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn the_state_of_a_device_is_taken_from_its_row() {
    let row: Device = serde_json::from_value(device()).expect("a device");
    let state = serde_json::to_value(DeviceState::from(row)).expect("JSON");
    for (key, value) in state.as_object().expect("an object") {
        match key.as_str() {
            "clock_ahead_seconds" => assert!(value.is_null()),
            "missing_settings" => assert_eq!(*value, json!([])),
            key => assert_eq!(*value, device()[key], "{key}"),
        }
    }
    assert_eq!(keys(&state).len(), 12);
}

#[test]
fn a_status_comes_back_by_name_as_in_json() {
    for status in [DeviceStatus::Online, DeviceStatus::Degraded, DeviceStatus::Offline] {
        assert_eq!(DeviceStatus::parse(status.as_str()), Some(status));
        assert_eq!(serde_json::to_value(status).expect("JSON"), status.as_str());
    }
    assert_eq!((DeviceStatus::parse("Online"), DeviceStatus::parse("")), (None, None));
}
