use super::*;
use serde_json::{Value, json};

/// What was read can be sent back: each field is either the body's, or one that is ignored.
#[test]
fn every_field_of_a_group_can_be_set_or_is_read_only_and_never_both() {
    let id = "00000000-0000-0000-0000-000000000001";
    let group = json!({
        "id": id, "name": "Plant North", "description": null, "nominal_voltage_v": 230.0,
        "nominal_frequency_hz": 50.0, "max_power_kw": null, "counter_end": null,
        "time_zone": "UTC", "devices": 3, "created_at": "2026-05-16T17:05:32Z",
        "updated_at": "2026-05-16T17:05:33Z"
    });
    let read: Group = serde_json::from_value(group.clone()).expect("a group");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), group);
    let body = GroupBody { name: "n".into(), ..GroupBody::default() };
    let body = serde_json::to_value(body).expect("JSON");
    for key in group.as_object().expect("an object").keys() {
        let read_only = Group::READ_ONLY.contains(&key.as_str());
        assert!(read_only != body.get(key).is_some(), "{key}");
    }
}

#[test]
fn a_group_needs_a_name_and_takes_no_unknown_field() {
    let body = |json: Value| serde_json::from_value::<GroupBody>(json);
    let least = body(json!({ "name": "n" })).expect("a group");
    assert_eq!(least, GroupBody { name: "n".into(), ..GroupBody::default() });
    for bad in [json!({}), json!({ "name": null }), json!({ "name": "n", "tz": "UTC" })] {
        assert!(body(bad.clone()).is_err(), "{bad}");
    }
    let change = |json: Value| serde_json::from_value::<MembersChange>(json);
    let none = change(json!({})).expect("a change");
    assert!(none.add.is_empty() && none.remove.is_empty());
    assert!(
        change(json!({ "delete": ["d1"] })).is_err() && change(json!({ "add": "d1" })).is_err()
    );
}
