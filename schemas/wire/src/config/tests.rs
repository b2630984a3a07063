use super::*;
use proptest::prelude::*;
use serde_json::json;

fn check(section: Section, values: Value) -> Result<(), (String, String)> {
    let Value::Object(values) = values else { panic!("an object") };
    check_values(section, &values)
}

#[test]
fn secrets_are_masked_wherever_they_are() {
    let shown = masked(json!({
        "ssid": "plant", "Password": "x", "gsm": [{"pin": 1234, "apn": "m2m"}], "pass": null
    }));
    let want = json!({
        "ssid": "plant", "Password": MASK, "gsm": [{"pin": MASK, "apn": "m2m"}], "pass": null
    });
    assert_eq!(shown, want);
    let url = masked(json!({"url": "https://a.example/f/1.2.0?t=abc", "version": "1.2.0"}));
    assert_eq!(
        url,
        json!({"url": format!("https://a.example/f/1.2.0?t={MASK}"), "version": "1.2.0"})
    );
}

#[test]
fn values_are_bounded_and_known_ones_checked() {
    assert_eq!(check(Section::Meter, json!({"nominal_voltage_v": 230, "wiring": "3ln"})), Ok(()));
    for (section, values, field) in [
        (Section::Wifi, json!({}), ""),
        (Section::Meter, json!({"nominal_voltage_v": "230"}), "nominal_voltage_v"),
        (Section::Heartbeat, json!({"interval_s": 1}), "interval_s"),
        (Section::Wifi, json!({"password": MASK}), "password"),
        (Section::Wifi, json!({"ap": [{"pass": MASK}]}), "ap"),
        (Section::Wifi, json!({"a": {"b": {"c": {"d": {"e": 1}}}}}), "a"),
        (Section::Wifi, json!({"a": "x".repeat(600)}), "a"),
    ] {
        let fault = check(section, values.clone()).expect_err("a fault");
        assert_eq!(fault.0, field, "{values}: {}", fault.1);
    }
}

#[test]
fn numbers_of_known_values_are_taken_up_to_the_ends_of_their_range() {
    for (section, name, from, to) in [
        (Section::Telemetry, "interval_s", 1.0, 86_400.0),
        (Section::Heartbeat, "interval_s", 10.0, 86_400.0),
        (Section::Meter, "nominal_voltage_v", 10.0, 1_000_000.0),
        (Section::Meter, "nominal_frequency_hz", 40.0, 70.0),
        (Section::Meter, "pt_ratio", 0.001, 1_000_000.0),
        (Section::Meter, "ct_ratio", 0.001, 1_000_000.0),
    ] {
        for good in [from, to] {
            assert_eq!(check(section, json!({ name: good })), Ok(()), "{name} {good}");
        }
        for bad in [json!(from - 0.001), json!(to + 0.001), json!(null), json!(true), json!([from])]
        {
            let fault = check(section, json!({ name: bad })).expect_err("a fault");
            assert_eq!(fault, (name.to_owned(), format!("a number from {from} to {to}")), "{bad}");
        }
    }
    // The same name means something else in another section.
    assert_eq!(check(Section::Sd, json!({ "interval_s": "never" })), Ok(()));
}

#[test]
fn keys_are_counted_in_characters_at_every_depth() {
    let (fits, long) = ("ü".repeat(64), "ü".repeat(65));
    assert_eq!(check(Section::Wifi, json!({ &fits: { &fits: 1 } })), Ok(()));
    for (bad, at) in [
        (json!({ &long: 1 }), long.as_str()),
        (json!({ "": 1 }), ""),
        (json!({ "a\u{7}": 1 }), "a\u{7}"),
        (json!({ "a": { &long: 1 } }), "a"),
        (json!({ "a": [{ "b\0": 1 }] }), "a"),
    ] {
        let fault = check(Section::Wifi, bad.clone()).expect_err("a fault");
        let message = "a key has 1 to 64 characters and no control characters";
        assert_eq!(fault, (at.to_owned(), message.to_owned()), "{bad}");
    }
}

#[test]
fn sizes_end_where_they_say() {
    let values = |n: usize| Value::Object((0..n).map(|i| (format!("k{i}"), json!(i))).collect());
    assert_eq!(check(Section::Sd, values(64)), Ok(()));
    assert_eq!(check(Section::Sd, values(65)), Err((String::new(), "1 to 64 values".to_owned())));
    assert_eq!(check(Section::Sd, json!({ "a": "ü".repeat(512) })), Ok(()));
    for bad in ["ü".repeat(513), "a\0b".to_owned()] {
        let fault = check(Section::Sd, json!({ "a": [{ "b": bad }] })).expect_err("a fault");
        assert_eq!(fault.1, "a text has at most 512 characters and no NUL");
    }
    assert_eq!(check(Section::Sd, json!({ "a": [[[1]]] })), Ok(()));
    let fault = check(Section::Sd, json!({ "a": [[[[1]]]] })).expect_err("a fault");
    assert_eq!(fault, ("a".to_owned(), "nested deeper than 4 levels".to_owned()));
}

#[test]
fn the_mask_is_refused_only_where_a_secret_stands() {
    assert_eq!(check(Section::Wifi, json!({ "ssid": MASK, "note": [MASK] })), Ok(()));
    for bad in [
        json!({ "PassWord": MASK }),
        json!({ "pin": [MASK] }),
        json!({ "a": { "b": { "pass": MASK } } }),
    ] {
        let fault = check(Section::Wifi, bad.clone()).expect_err("a fault");
        assert_eq!(fault.1, "is the mask of a secret: leave it out to keep it", "{bad}");
    }
    // The text of a mask is no secret that somebody typed, but other lengths may be one.
    assert_eq!(check(Section::Wifi, json!({ "password": "*********" })), Ok(()));
}

#[test]
fn only_secrets_and_download_tokens_are_masked() {
    for kept in [
        json!({ "passwords": "x", "pinned": 1, "spin": 2, "bypass": 3 }),
        json!({ "url": "https://a.example/f?v=1&t=abc", "text": "see ?t=abc" }),
        json!({ "password": null }),
        json!(["password", "pin"]),
    ] {
        assert_eq!(masked(kept.clone()), kept);
    }
    // Whatever a secret is, nothing of it shows.
    for secret in [json!(""), json!(0), json!(false), json!({ "a": "b" }), json!(["x"])] {
        assert_eq!(masked(json!({ "pass": secret })), json!({ "pass": MASK }));
    }
    assert_eq!(masked(json!("http://h/x?t=")), json!(format!("http://h/x?t={MASK}")));
}

#[test]
fn sections_come_back_by_name_and_no_other_text_does() {
    for section in Section::ALL {
        assert_eq!(Section::parse(section.as_str()), Some(section));
        assert_eq!(section.to_string(), section.as_str());
    }
    for bad in ["", "WIFI", " wifi", "wifi ", "network"] {
        assert_eq!(Section::parse(bad), None, "{bad}");
    }
    let names =
        "wifi, gsm, mqtt, modbus, meter, telemetry, heartbeat, alerts, transport, sd, ota, time";
    assert_eq!(Section::names(), names);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_secret_shows_nowhere_after_masking(
        path in proptest::collection::vec(prop_oneof![Just(None), "[a-z]{1,5}".prop_map(Some)], 0..6),
        name in prop::sample::select(vec!["password", "Password", "PASS", "pass", "pin", "Pin", "PIN"]),
    ) {
        let secret = json!({ name: "s3cret-Value" });
        let value = path.into_iter().fold(secret, |inner, key| match key {
            Some(key) => json!({ key: inner, "other": 1 }),
            None => json!([inner, "other"]),
        });
        let shown = masked(value);
        prop_assert!(!shown.to_string().contains("s3cret"), "{shown}");
        prop_assert_eq!(masked(shown.clone()), shown);
    }
}
