use super::*;
use serde_json::json;

fn mended(forms: &[(&str, Form)], given: Value) -> Value {
    let Value::Object(mut fields) = given else { panic!("an object") };
    let numbers = fields.clone();
    mend(&mut fields, forms, |name| numbers.get(name).map(ToString::to_string));
    Value::Object(fields)
}

#[test]
fn texts_are_trimmed_numbers_accepted_and_empty_texts_unknown() {
    for (given, want) in [
        (json!({"meter_serial": "AH1234567\0\0"}), json!({"meter_serial": "AH1234567"})),
        (json!({"meter_serial": "  AH1 \r\n"}), json!({"meter_serial": "AH1"})),
        (json!({"meter_serial": 1_234_567}), json!({"meter_serial": "1234567"})),
        (json!({"meter_serial": 1_234_567.0}), json!({"meter_serial": "1234567"})),
        (json!({"meter_serial": ""}), json!({})),
        (json!({"meter_serial": "\0\0\0\0"}), json!({})),
        (json!({"meter_serial": "00000000"}), json!({})),
        (json!({"meter_serial": null, "boot": null}), json!({})),
        (json!({"imei": 351_234_567_890_123_u64}), json!({"imei": "351234567890123"})),
        (json!({"imei": "351234567890123\r\n\r\nOK\r\n"}), json!({"imei": "351234567890123"})),
        (json!({"iccid": "8986011670901001abcd"}), json!({"iccid": "8986011670901001ABCD"})),
        (json!({"iccid": "89 27 0000 0000 0000 0001F"}), json!({"iccid": "89270000000000000001F"})),
        (json!({"mac_address": "aa-bb-cc-dd-ee-ff"}), json!({"mac_address": "AA:BB:CC:DD:EE:FF"})),
        (json!({"capabilities": ["wifi\0", "\0", 5]}), json!({"capabilities": ["wifi"]})),
        (json!({"boot": 17.0, "protocol": 1.0}), json!({"boot": 17, "protocol": 1})),
    ] {
        assert_eq!(mended(REGISTRATION, given.clone()), want, "{given}");
    }
}

#[test]
fn an_invalid_field_is_kept_and_does_not_affect_the_others() {
    for (name, odd) in [
        ("imei", json!("12")),
        ("iccid", json!("x")),
        ("mac_address", json!("no")),
        ("hardware", json!("T\0x")),
        ("firmware_version", json!("x".repeat(65))),
        ("capabilities", json!("wifi")),
        ("boot", json!("seventeen")),
        ("boot", json!(-1)),
        ("max_packet_bytes", json!(1e10)),
        ("protocol", json!(1.5)),
    ] {
        let mut given = json!({"device_id": "d1"});
        given[name] = odd.clone();
        let mended = mended(REGISTRATION, given);
        assert_eq!(mended["device_id"], "d1");
        assert_eq!(mended.get(name), None, "{name}: {odd}");
        assert!(mended[ODD][name].is_string(), "{mended}");
    }
}

#[test]
fn what_identifies_a_part_is_taken_in_its_lengths_alone() {
    let digits = |n: usize| "8".repeat(n);
    for (name, least, most) in [("imei", 14, 16), ("iccid", 18, 22)] {
        for n in [least, most] {
            let read = mended(REGISTRATION, json!({ name: digits(n) }));
            assert_eq!(read, json!({ name: digits(n) }), "{name} {n}");
        }
        for n in [least - 1, most + 1] {
            let read = mended(REGISTRATION, json!({ name: digits(n) }));
            assert_eq!(read, json!({ ODD: { name: digits(n) } }), "{name} {n}");
        }
    }
    // An IMEI has decimal digits, an ICCID may have others.
    assert_eq!(
        mended(REGISTRATION, json!({ "imei": "35123456789012a" }))[ODD]["imei"],
        "35123456789012a"
    );
    for bad in ["AABBCCDDEEF", "AABBCCDDEEFF0", "AA:BB:CC:DD:EE:FG", "ÄABBCCDDEEF"] {
        assert_eq!(mended(REGISTRATION, json!({ "mac_address": bad }))[ODD]["mac_address"], bad);
    }
    let bare = mended(REGISTRATION, json!({ "mac_address": "aabbccddeeff" }));
    assert_eq!(bare["mac_address"], "AA:BB:CC:DD:EE:FF");
}

#[test]
fn a_serial_of_zeros_or_of_a_failed_read_is_no_meter() {
    for unknown in ["", "\0", "0", "0000", "000-000", "-1", "--", "\u{feff}"] {
        assert_eq!(serial_of(unknown), None, "{unknown:?}");
        assert_eq!(mended(HEARTBEAT, json!({ "meter_serial": unknown })), json!({}), "{unknown:?}");
    }
    for known in ["1", "A0", "00001", "-12", "ÄH"] {
        assert_eq!(serial_of(&format!(" {known}\0")), Some(known));
    }
}

#[test]
fn texts_have_at_most_64_characters_and_32_capabilities_are_kept() {
    let fits = "ü".repeat(64);
    assert_eq!(mended(HEARTBEAT, json!({ "hardware": fits }))["hardware"], fits);
    let long = mended(HEARTBEAT, json!({ "hardware": "ü".repeat(300) }));
    assert_eq!(long[ODD]["hardware"], "ü".repeat(128), "only its beginning is kept");
    let many: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    let kept = mended(REGISTRATION, json!({ "capabilities": many }));
    assert_eq!(kept["capabilities"], json!(many[..32]));
    // No capability is known to be none; a list without a single text is no list of capabilities.
    assert_eq!(mended(REGISTRATION, json!({ "capabilities": [] })), json!({ "capabilities": [] }));
    assert_eq!(mended(REGISTRATION, json!({ "capabilities": [1] }))[ODD]["capabilities"], "[1]");
}

#[test]
fn odd_fields_that_the_device_reports_itself_are_kept_beside_ours() {
    let both = mended(HEARTBEAT, json!({ ODD: { "x": "1" }, "boot": "many" }));
    assert_eq!(both, json!({ ODD: { "x": "1", "boot": "many" } }));
    let none = mended(HEARTBEAT, json!({ ODD: { "x": "1" } }));
    assert_eq!(none, json!({ ODD: { "x": "1" } }));
}

#[test]
fn whole_numbers_of_unknown_fields_are_read_in_any_form() {
    for (value, want) in [
        (json!(7), Some(7)),
        (json!(-7.0), Some(-7)),
        (json!(1.7e1), Some(17)),
        (json!(i64::MIN), Some(i64::MIN)),
        (json!(u64::MAX), None),
        (json!(1.5), None),
        (json!(1e300), None),
        (json!("7"), None),
        (json!(null), None),
        (json!(true), None),
    ] {
        assert_eq!(whole(&value), want, "{value}");
    }
}
