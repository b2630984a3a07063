use super::*;
use serde_json::{Value, json};

fn scope(devices: &[&str], groups: &[u128], tags: &[&str]) -> DeviceScope {
    DeviceScope {
        device_ids: devices.iter().map(ToString::to_string).collect(),
        group_ids: groups.iter().copied().map(Uuid::from_u128).collect(),
        tags: tags.iter().map(ToString::to_string).collect(),
    }
}

/// An empty scope means every device: a field that `is_all` forgets would turn a rule for few into one for all.
#[test]
fn a_scope_is_for_all_only_if_it_names_nothing() {
    assert!(DeviceScope::default().is_all());
    assert!(DeviceScope::default().has("any", None, &[]));
    for some in [scope(&["d1"], &[], &[]), scope(&[], &[1], &[]), scope(&[], &[], &["roof"])] {
        assert!(!some.is_all() && !some.has("other", None, &[]), "{some:?}");
    }
}

#[test]
fn a_scope_has_what_any_of_its_lists_names() {
    let all = scope(&["d1"], &[1], &["roof", "critical"]);
    let tags = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let group = |n: u128| Some(Uuid::from_u128(n));
    assert!(all.has("d1", None, &[]));
    assert!(all.has("d9", group(1), &[]));
    assert!(all.has("d9", group(2), &tags(&["x", "critical"])));
    assert!(!all.has("d9", group(2), &tags(&["x"])));
    // Names are compared as they are.
    assert!(!all.has("D1", None, &tags(&["Roof", "roof "])));
}

fn body() -> Value {
    json!({
        "name": "Overvoltage", "alert_type": "overvoltage", "severity": "critical",
        "when": "voltage_l1_v > 253", "clear_when": null, "for_seconds": 10,
        "clear_for_seconds": 20, "gap_seconds": 900, "flap_count": 0, "flap_seconds": 60,
        "scope": { "device_ids": ["d1"], "group_ids": [], "tags": [] }, "message": "m",
        "mode": "shadow"
    })
}

#[test]
fn a_rule_has_the_defaults_of_the_documentation() {
    let least = json!({ "name": "n", "alert_type": "t", "when": "true" });
    let rule: RuleBody = serde_json::from_value(least).expect("a rule");
    let want = json!({
        "name": "n", "alert_type": "t", "severity": "warning", "when": "true", "clear_when": null,
        "for_seconds": 0, "clear_for_seconds": 0, "gap_seconds": null, "flap_count": 5,
        "flap_seconds": 1800, "scope": { "device_ids": [], "group_ids": [], "tags": [] },
        "message": null, "mode": "live"
    });
    assert_eq!(serde_json::to_value(&rule).expect("JSON"), want);
    let full: RuleBody = serde_json::from_value(body()).expect("a rule");
    assert_eq!(serde_json::to_value(&full).expect("JSON"), body());
}

#[test]
fn a_rule_with_a_misspelt_or_missing_field_is_refused() {
    for missing in ["name", "alert_type", "when"] {
        let mut without = body();
        without.as_object_mut().expect("an object").remove(missing);
        assert!(serde_json::from_value::<RuleBody>(without).is_err(), "{missing}");
    }
    for (field, value) in [
        ("for_second", json!(10)),
        ("for_seconds", json!(-1)),
        ("for_seconds", json!(1.5)),
        ("severity", json!("Critical")),
        ("mode", json!("on")),
        ("scope", json!({ "devices": ["d1"] })),
        ("scope", json!({ "group_ids": ["north"] })),
    ] {
        let mut bad = body();
        bad[field] = value.clone();
        assert!(serde_json::from_value::<RuleBody>(bad).is_err(), "{field} {value}");
    }
}

/// What was read can be sent back: each field is either the body's, or one that is ignored.
#[test]
fn a_rule_shows_its_body_and_what_nobody_can_set() {
    let mut shown = body();
    shown["id"] = json!("00000000-0000-0000-0000-000000000001");
    shown["version"] = json!(3);
    shown["open_alerts"] = json!(0);
    shown["created_at"] = json!("2026-05-16T17:05:32Z");
    shown["updated_at"] = json!("2026-05-16T17:05:33Z");
    let rule: Rule = serde_json::from_value(shown.clone()).expect("a rule");
    assert_eq!(serde_json::to_value(&rule).expect("JSON"), shown);
    let own = body();
    for key in shown.as_object().expect("an object").keys() {
        let read_only = Rule::READ_ONLY.contains(&key.as_str());
        assert!(read_only != own.get(key).is_some(), "{key}");
    }
}

#[test]
fn a_backtest_needs_a_time_span_and_may_name_a_rule_in_two_ways() {
    let span = json!({ "from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z" });
    let request: BacktestRequest = serde_json::from_value(span.clone()).expect("a request");
    assert!(request.rule.is_none() && request.rule_id.is_none() && request.scope.is_none());
    for (field, value) in [
        ("from", Value::Null),
        ("to", json!("2026-05-02")),
        ("rule", json!({ "name": "n" })),
        ("rules", json!([])),
        ("scope", json!("d1")),
    ] {
        let mut bad = span.clone();
        bad[field] = value;
        assert!(serde_json::from_value::<BacktestRequest>(bad).is_err(), "{field}");
    }
}
