use super::*;
use serde_json::json;

fn alert() -> Value {
    json!({
        "id": "00000000-0000-0000-0000-000000000002", "device_id": "d1",
        "alert_type": "overvoltage", "severity": "critical", "message": "too much",
        "value": 256.1, "threshold": 253.0, "metadata": { "phase": "l1" }, "origin": "device",
        "rule_id": null, "rule_version": null, "shadow": false, "backfilled": false,
        "silenced": false, "withdrawn": false, "acknowledged": true, "acknowledged_by": "admin",
        "acknowledged_at": "2026-05-16T17:06:00Z", "acknowledge_note": "seen",
        "created_at": "2026-05-16T17:05:00Z", "raised_at": "2026-05-16T17:05:32.250Z",
        "resolved_at": null, "resolved_by": null, "resolution": null, "incident_id": null,
        "reminded_at": null, "escalated_at": null
    })
}

/// Clients tell absent fields from null: every field is there in every answer.
#[test]
fn an_alert_shows_every_field_also_those_that_are_null() {
    let read: Alert = serde_json::from_value(alert()).expect("an alert");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), alert());
}

#[test]
fn an_alert_without_its_condition_or_with_an_unknown_origin_is_none() {
    for field in ["id", "alert_type", "severity", "origin", "created_at", "raised_at", "shadow"] {
        let mut without = alert();
        without.as_object_mut().expect("an object").remove(field);
        assert!(serde_json::from_value::<Alert>(without).is_err(), "{field}");
    }
    for (field, bad) in [
        ("origin", json!("Rule")),
        ("severity", json!("fatal")),
        ("created_at", json!("2026-05-16T17:05:00")),
        ("id", json!("1")),
    ] {
        let mut other = alert();
        other[field] = bad;
        assert!(serde_json::from_value::<Alert>(other).is_err(), "{field}");
    }
}

#[test]
fn origins_come_back_by_name_as_in_json() {
    for origin in [AlertOrigin::Device, AlertOrigin::Rule, AlertOrigin::Health, AlertOrigin::System]
    {
        assert_eq!(AlertOrigin::parse(origin.as_str()), Some(origin));
        assert_eq!(serde_json::to_value(origin).expect("JSON"), origin.as_str());
    }
    for bad in ["", "Device", "person"] {
        assert_eq!(AlertOrigin::parse(bad), None, "{bad}");
    }
}

/// A misspelt condition would otherwise match, and acknowledge, every open alert.
#[test]
fn a_misspelt_condition_is_refused_and_acknowledges_nothing() {
    let body = |json: Value| serde_json::from_value::<AcknowledgeMany>(json);
    assert!(body(json!({ "filter": { "device": "d1" } })).is_err());
    assert!(body(json!({ "filter": { "severity": "Critical" } })).is_err());
    assert!(body(json!({ "id": [] })).is_err());
    assert!(serde_json::from_value::<AcknowledgeBody>(json!({ "notes": "x" })).is_err());
    let all = body(json!({ "filter": {} })).expect("a body");
    assert!(all.ids.is_empty() && all.note.is_none());
    let filter = all.filter.expect("a filter");
    assert!(filter.device_id.is_none() && filter.group_id.is_none() && filter.alert_type.is_none());
    assert!(body(json!({})).expect("a body").filter.is_none());
}

#[test]
fn a_silence_needs_an_end_and_a_reason_and_is_for_all_unless_it_names_some() {
    let body = |json: Value| serde_json::from_value::<SilenceBody>(json);
    let least = body(json!({ "until": "2026-05-17T00:00:00Z", "reason": "maintenance" }));
    let least = least.expect("a silence");
    assert!(least.scope.is_all() && least.alert_types.is_empty());
    assert!(body(json!({ "until": "2026-05-17T00:00:00Z" })).is_err());
    assert!(body(json!({ "reason": "maintenance" })).is_err());
    let misspelt = json!({ "until": "2026-05-17T00:00:00Z", "reason": "r", "scopes": {} });
    assert!(body(misspelt).is_err());
}
