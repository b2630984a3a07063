//! Rows of tables as items of telemetry.

use super::*;
use serde_json::json;

fn item(shape: &Shape, row: Value) -> Result<(String, Value), String> {
    let Value::Object(row) = row else { panic!("an object") };
    let item = shape.item(row)?;
    Ok((item.device_id, serde_json::from_str(&item.json).expect("json")))
}

#[test]
fn columns_and_json_columns_become_items() {
    let shape = Shape::default();
    let row = json!({"device_id": "d1", "ts": "2026-05-01 00:00:00+0200", "v1": 230.4, "f": null});
    let want = json!({"ts": "2026-04-30T22:00:00.000000Z", "source": "import", "v1": 230.4});
    assert_eq!(item(&shape, row), Ok(("d1".into(), want)));
    let named = Shape { device_id: "meter".into(), ts: "at".into(), ..Shape::default() };
    let row = json!({"meter": 7, "at": 1_777_593_600, "data": "{\"voltage_l1_v\": 230}"});
    let want = json!({"ts": 1_777_593_600, "source": "import", "voltage_l1_v": 230});
    assert_eq!(item(&named, row), Ok(("7".into(), want)));
}

#[test]
fn times_without_a_zone_need_one() {
    let row = || json!({"device_id": "d1", "ts": "2026-03-29 12:00:00.25"});
    let refused = item(&Shape::default(), row()).expect_err("no zone");
    assert!(refused.contains("time_zone"), "{refused}");
    let berlin = Shape { zone: Some(Tz::Europe__Berlin), ..Shape::default() };
    let (_, got) = item(&berlin, row()).expect("a time");
    assert_eq!(got["ts"], "2026-03-29T10:00:00.250000Z");
    let gap = json!({"device_id": "d1", "ts": "2026-03-29 02:30:00"});
    assert!(item(&berlin, gap).expect_err("no such time").contains("set forward"));
    let twice = json!({"device_id": "d1", "ts": "2026-10-25 02:30:00"});
    assert!(item(&berlin, twice).expect_err("which of the two").contains("set back"));
    let once = json!({"device_id": "d1", "ts": "2026-10-25 02:30:00+01:00"});
    assert!(item(&berlin, once).is_ok());
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for (row, said) in [
        (json!({"ts": 1}), "no device_id"),
        (json!({"device_id": "a/b", "ts": 1}), "no device id"),
        (json!({"device_id": "a"}), "no ts"),
        (json!({"device_id": "a", "ts": "yesterday"}), "no time"),
        (json!({"device_id": "a", "ts": 1, "data": "[1]"}), "no JSON object"),
    ] {
        let refused = item(&Shape::default(), row.clone()).expect_err("refused");
        assert!(refused.contains(said), "{row}: {refused}");
    }
}

#[test]
fn cells_are_numbers_where_they_look_like_them() {
    assert_eq!(cell(""), Value::Null);
    assert_eq!(cell("230.40"), json!(230.4));
    assert_eq!(cell("-0.5"), json!(-0.5));
    assert_eq!(cell("00123"), json!("00123"));
    assert_eq!(cell("2026-05-01"), json!("2026-05-01"));
}

#[test]
fn a_column_of_json_wins_over_the_rows_own_columns_and_keeps_its_time() {
    let row = json!({
        "device_id": "d1", "ts": "2026-05-01T00:00:00Z", "v1": 1, "source": "meter",
        "data": {"v1": 2, "v2": 3, "ts": "1999-01-01T00:00:00Z"},
    });
    let (_, got) = item(&Shape::default(), row).expect("an item");
    assert_eq!(got["v1"], 2);
    assert_eq!(got["v2"], 3);
    assert_eq!(got["ts"], "2026-05-01T00:00:00.000000Z", "the column of times is the time");
    assert_eq!(got["source"], "meter", "what says where it is from keeps it");
    let (_, got) = item(&Shape::default(), json!({"device_id": "d1", "ts": 1, "data": null}))
        .expect("an item");
    assert_eq!(got.get("data"), None);
}

#[test]
fn ids_that_are_no_text_and_no_number_are_refused() {
    for id in [json!(null), json!(true), json!([]), json!({}), json!(""), json!("a/b"), json!(1.5)]
    {
        assert!(item(&Shape::default(), json!({"device_id": id, "ts": 1})).is_err(), "{id}");
    }
    for ts in [json!(null), json!(true), json!([1]), json!(""), json!("2026-13-01T00:00:00Z")] {
        assert!(item(&Shape::default(), json!({"device_id": "d1", "ts": ts})).is_err(), "{ts}");
    }
}

#[test]
fn times_near_a_change_of_clocks_are_exact() {
    let zone = |tz| Shape { zone: Some(tz), ..Shape::default() };
    for (tz, text, want) in [
        // Half an hour of offset, half an hour of change.
        (Tz::Australia__Lord_Howe, "2026-01-01 00:00:00", Some("2025-12-31T13:00:00.000000Z")),
        (Tz::Australia__Lord_Howe, "2026-10-04 02:15:00", None),
        (Tz::Asia__Kolkata, "2026-05-01 00:00:00.5", Some("2026-04-30T18:30:00.500000Z")),
        (Tz::Europe__Berlin, "2026-03-29 01:59:59.999999", Some("2026-03-29T00:59:59.999999Z")),
        (Tz::Europe__Berlin, "2026-03-29 03:00:00", Some("2026-03-29T01:00:00.000000Z")),
        (Tz::Europe__Berlin, "2026-10-25 03:00:00", Some("2026-10-25T02:00:00.000000Z")),
        (Tz::UTC, "2026-05-01T00:00:00", Some("2026-05-01T00:00:00.000000Z")),
        (Tz::UTC, "2026-02-29 00:00:00", None),
    ] {
        let got = item(&zone(tz), json!({"device_id": "d1", "ts": text}));
        assert_eq!(
            got.ok().and_then(|(_, item)| item["ts"].as_str().map(str::to_owned)).as_deref(),
            want,
            "{text} in {tz}"
        );
    }
}

#[test]
fn a_cell_that_only_looks_like_a_number_stays_text() {
    for text in ["-", "--1", "1.2.3", "1e", "0x10", "1,5", "+1", ".5", "Infinity", "NaN", "1_000"] {
        assert_eq!(cell(text), json!(text));
    }
    assert_eq!(cell("1e3"), json!(1000.0));
    assert_eq!(cell("9223372036854775807"), json!(i64::MAX));
}
