use super::*;
use serde_json::json;

fn vitals(extra: Value) -> Vitals {
    let mut heartbeat = json!({ "ts": 1_778_951_132 });
    let Value::Object(extra) = extra else { panic!("an object") };
    heartbeat.as_object_mut().expect("an object").extend(extra);
    Vitals::of(&serde_json::from_value(heartbeat).expect("a heartbeat"))
}

#[test]
fn each_value_is_read_from_its_place() {
    let all = vitals(json!({
        "reset_reason": "brownout", "free_heap": 142_000, "min_free_heap": 98_000.0,
        "modbus": { "ok": 1432, "errors": 3 }, "sd": { "present": true, "free_mb": 7300, "pending": 0 }
    }));
    let want = Vitals {
        reset_reason: Some("brownout".to_owned()),
        free_heap: Some(142_000),
        min_free_heap: Some(98_000),
        modbus_ok: Some(1432),
        modbus_errors: Some(3),
        sd_present: Some(true),
        sd_free_mb: Some(7300),
        sd_pending: Some(0),
    };
    assert_eq!(all, want);
    assert_eq!(vitals(json!({})), Vitals::default());
}

#[test]
fn the_numbers_of_esp_idf_get_their_names_and_others_stay_numbers() {
    let reason = |given: Value| vitals(json!({ "reset_reason": given })).reset_reason;
    for (number, name) in [
        (1, "poweron"),
        (3, "software"),
        (4, "panic"),
        (5, "int_wdt"),
        (6, "task_wdt"),
        (7, "wdt"),
        (8, "deepsleep"),
        (9, "brownout"),
        // Unknown, external and beyond: firmware that uses them is not wrong.
        (0, "0"),
        (2, "2"),
        (10, "10"),
        (-1, "-1"),
    ] {
        assert_eq!(reason(json!(number)).as_deref(), Some(name), "{number}");
    }
    assert_eq!(reason(json!(9.0)).as_deref(), Some("brownout"));
    assert_eq!(reason(json!(" BrownOut\r\n")).as_deref(), Some("brownout"));
    assert_eq!(reason(json!("x".repeat(33))), Some("x".repeat(32)));
    for nothing in [json!(null), json!(""), json!(" \0"), json!(9.5), json!([9]), json!(true)] {
        assert_eq!(reason(nothing.clone()), None, "{nothing}");
    }
}

#[test]
fn a_value_of_another_type_is_unknown_and_harms_no_other() {
    let odd = vitals(json!({
        "free_heap": "142000", "min_free_heap": 1.5, "modbus": [1, 2],
        "sd": { "present": "yes", "free_mb": null, "pending": 7 }
    }));
    assert_eq!(odd, Vitals { sd_pending: Some(7), ..Vitals::default() });
}
