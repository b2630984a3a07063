//! Bounds of bodies' fields, and the value just beyond.

use super::*;

#[test]
fn the_field_at_fault_is_named() {
    let edit = |json: serde_json::Value| {
        let edit: DeviceEdit = serde_json::from_value(json).expect("an edit");
        device_edit(&edit).map_err(|e| e.problem.errors.first().map(|f| f.field.clone()))
    };
    for good in [
        serde_json::json!({}),
        serde_json::json!({"name": null, "tags": null, "time_zone": null}),
        serde_json::json!({"time_zone": "Africa/Johannesburg", "nominal_voltage_v": 230}),
    ] {
        assert_eq!(edit(good.clone()), Ok(()), "{good}");
    }
    for (bad, field) in [
        (serde_json::json!({"name": ""}), "name"),
        (serde_json::json!({"name": " x"}), "name"),
        (serde_json::json!({"description": "x".repeat(1001)}), "description"),
        (serde_json::json!({"tags": ["a", ""]}), "tags"),
        (serde_json::json!({"tags": vec!["a"; 33]}), "tags"),
        (serde_json::json!({"nominal_voltage_v": 0}), "nominal_voltage_v"),
        (serde_json::json!({"nominal_frequency_hz": 400}), "nominal_frequency_hz"),
        (serde_json::json!({"max_power_kw": 0}), "max_power_kw"),
        (serde_json::json!({"counter_end": 1}), "counter_end"),
        (serde_json::json!({"time_zone": "Mars/Base"}), "time_zone"),
    ] {
        assert_eq!(edit(bad.clone()), Err(Some(field.to_owned())), "{bad}");
    }
    assert!(username("night.shift@plant").is_ok());
    assert!(username("").is_err() && username("a b").is_err() && username("ü").is_err());
}

fn field(checked: Result<(), ApiError>) -> Option<String> {
    checked.err().map(|error| error.problem.errors.first().expect("a field").field.clone())
}

#[test]
fn texts_are_counted_in_characters_and_have_no_control_characters() {
    assert!(short_text("tag", &"ü".repeat(NAME)).is_ok(), "characters, not bytes");
    for bad in ["", "a ", "\ta", "a\u{0}b", "a\u{1b}[31m", "a\rb"] {
        assert_eq!(field(short_text("tag", bad)).as_deref(), Some("tag"), "{bad:?}");
    }
    assert!(short_text("tag", &"ü".repeat(NAME + 1)).is_err());
    assert!(note(None).is_ok() && note(Some("")).is_ok() && note(Some("two\nlines")).is_ok());
    assert!(note(Some(&"x".repeat(DESCRIPTION))).is_ok());
    assert_eq!(field(note(Some(&"x".repeat(DESCRIPTION + 1)))).as_deref(), Some("note"));
    assert!(long_text("notes", "- one\r\n\t- two\n").is_ok());
    assert!(long_text("notes", &"ü".repeat(LONG)).is_ok());
    assert!(long_text("notes", &"ü".repeat(LONG + 1)).is_err());
    assert!(long_text("notes", "bell\u{7}").is_err());
}

#[test]
fn nominal_values_have_bounds_that_belong_to_them() {
    for (name, least, most) in [
        ("nominal_voltage_v", 10.0, 1_000_000.0),
        ("nominal_frequency_hz", 40.0, 70.0),
        ("max_power_kw", 0.001, 1e9),
        ("counter_end", 1000.0, 1e12),
    ] {
        for (value, is_good) in [
            (least, true),
            (most, true),
            (least * 0.999, false),
            (most * 1.001, false),
            (-least, false),
            (0.0, false),
        ] {
            let json = serde_json::json!({ name: value });
            let edit: DeviceEdit = serde_json::from_value(json.clone()).expect("an edit");
            assert_eq!(device_edit(&edit).is_ok(), is_good, "{json}");
            let mut json = json;
            json["name"] = "Plant North".into();
            let body: GroupBody = serde_json::from_value(json.clone()).expect("a group");
            assert_eq!(group(&body).is_ok(), is_good, "{json}");
        }
    }
    let edit = |volts| DeviceEdit { nominal_voltage_v: Some(Some(volts)), ..DeviceEdit::default() };
    for volts in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(field(device_edit(&edit(volts))).as_deref(), Some("nominal_voltage_v"));
    }
}

#[test]
fn a_device_has_up_to_32_tags_and_an_id_that_fits_into_a_topic() {
    let tags =
        |n| DeviceEdit { tags: Some(Some(vec!["t".to_owned(); n])), ..DeviceEdit::default() };
    assert!(device_edit(&tags(TAGS)).is_ok());
    assert_eq!(field(device_edit(&tags(TAGS + 1))).as_deref(), Some("tags"));
    assert!(device_id("device_id", &"a".repeat(32)).is_ok());
    let too_long = "a".repeat(33);
    for bad in ["", "a b", "a/b", "+", "#", "a'b", "ä", "a\n", too_long.as_str()] {
        assert_eq!(field(device_id("device_id", bad)).as_deref(), Some("device_id"), "{bad:?}");
    }
}

fn rule_of(change: &serde_json::Value) -> RuleBody {
    let mut body = serde_json::json!({"name": "r", "alert_type": "high", "when": "true"});
    for (key, value) in change.as_object().expect("an object") {
        body[key] = value.clone();
    }
    serde_json::from_value(body).expect("a rule")
}

#[test]
fn a_rule_has_times_and_counts_within_bounds() {
    use serde_json::json;
    let longest = "x".repeat(64);
    for good in [
        json!({}),
        json!({"for_seconds": 86_400, "clear_for_seconds": 86_400}),
        json!({"gap_seconds": 1}),
        json!({"gap_seconds": 345_600}),
        json!({"flap_count": 0}),
        json!({"flap_count": 2}),
        json!({"flap_count": MOST_FLAPS}),
        json!({"flap_seconds": 1}),
        json!({"alert_type": longest}),
    ] {
        assert_eq!(field(rule(&rule_of(&good))), None, "{good}");
    }
    for (bad, name) in [
        (json!({"name": ""}), "name"),
        (json!({"for_seconds": 86_401}), "for_seconds"),
        (json!({"clear_for_seconds": 86_401}), "clear_for_seconds"),
        (json!({"gap_seconds": 0}), "gap_seconds"),
        (json!({"gap_seconds": 345_601}), "gap_seconds"),
        (json!({"flap_count": 1}), "flap_count"),
        (json!({"flap_count": MOST_FLAPS + 1}), "flap_count"),
        (json!({"flap_seconds": 0}), "flap_seconds"),
        (json!({"flap_seconds": 86_401}), "flap_seconds"),
        (json!({"alert_type": ""}), "alert_type"),
        (json!({"alert_type": "Over Voltage"}), "alert_type"),
        (json!({"alert_type": "x".repeat(65)}), "alert_type"),
        (json!({"scope": {"device_ids": ["a b"]}}), "scope.device_ids"),
        (json!({"scope": {"tags": [""]}}), "scope.tags"),
        (json!({"scope": {"device_ids": vec!["a"; SCOPE + 1]}}), "scope"),
        (json!({"scope": {"tags": vec!["a"; SCOPE + 1]}}), "scope"),
    ] {
        assert_eq!(field(rule(&rule_of(&bad))).as_deref(), Some(name), "{name}");
    }
}

#[test]
fn a_silence_ends_in_the_future_and_within_a_year() {
    use serde_json::json;
    let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    let silence_until = |until: DateTime<Utc>| {
        let body = json!({"reason": "maintenance", "until": until});
        silence(&serde_json::from_value(body).expect("a silence"), now)
    };
    assert!(silence_until(now + TimeDelta::milliseconds(1)).is_ok());
    assert!(silence_until(now + TimeDelta::days(366)).is_ok());
    for bad in [now, now - TimeDelta::days(1), now + TimeDelta::days(366) + TimeDelta::seconds(1)] {
        assert_eq!(field(silence_until(bad)).as_deref(), Some("until"), "{bad}");
    }
    let with = |change: (&str, serde_json::Value)| {
        let mut body = json!({"reason": "maintenance", "until": now + TimeDelta::hours(1)});
        body[change.0] = change.1;
        field(silence(&serde_json::from_value(body).expect("a silence"), now))
    };
    assert_eq!(with(("reason", json!(""))).as_deref(), Some("reason"));
    assert_eq!(with(("alert_types", json!(["Device's own: 7"]))), None, "devices name their own");
    assert_eq!(with(("alert_types", json!([""]))).as_deref(), Some("alert_types"));
    assert_eq!(with(("alert_types", json!(vec!["a"; TAGS + 1]))).as_deref(), Some("alert_types"));
}

#[test]
fn a_scope_names_a_bounded_number_of_devices_and_groups() {
    let scope_of = |devices: usize, groups: usize| Scope {
        device_ids: vec!["a".to_owned(); devices],
        group_ids: vec![uuid::Uuid::nil(); groups],
    };
    assert!(scope(None).is_ok());
    assert!(scope(Some(&scope_of(0, 0))).is_ok(), "one that sees nothing");
    assert!(scope(Some(&scope_of(SCOPE, SCOPE))).is_ok());
    assert!(scope(Some(&scope_of(SCOPE + 1, 0))).is_err());
    assert!(scope(Some(&scope_of(0, SCOPE + 1))).is_err());
    let hostile = Scope { device_ids: vec!["' OR 1=1".to_owned()], group_ids: Vec::new() };
    assert_eq!(field(scope(Some(&hostile))).as_deref(), Some("scope.device_ids"));
    assert!(username(&"a".repeat(64)).is_ok());
    assert!(username(&"a".repeat(65)).is_err());
}
