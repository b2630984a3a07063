use chrono::{TimeDelta, TimeZone as _};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{fresh, runtime};

#[test]
fn nul_is_removed_from_texts_at_every_depth() {
    assert_eq!(without_nul("a\0b\0".to_owned()), "ab");
    assert_eq!(without_nul("äöü".to_owned()), "äöü");
    let json = json!({"k\0ey": ["\0", {"deep\0": "x\0y"}], "n": 1, "none": null});
    let clean = json!({"key": ["", {"deep": "xy"}], "n": 1, "none": null});
    assert_eq!(json_without_nul(json), clean);
}

#[tokio::test]
async fn a_text_is_found_by_the_text_it_was_stored_with() {
    let (_dir, control) = fresh().await;
    let hostile = "'; DROP TABLE settings; -- \0 \u{1F50C}";
    let add = "INSERT INTO settings (name, value) VALUES ($1, $2)";
    control.execute(add, vec![hostile.into(), "here".into()]).await.expect("store");
    let found: Option<(String,)> = control
        .fetch_optional("SELECT value FROM settings WHERE name = $1", vec![hostile.into()])
        .await
        .expect("ask");
    assert_eq!(found.map(|(value,)| value).as_deref(), Some("here"));
}

#[tokio::test]
async fn absent_values_stay_absent() {
    let (_dir, control) = fresh().await;
    let nothing = vec![
        Value::Text(None),
        Value::Int(None),
        Value::Real(None),
        Value::Bool(None),
        Value::Time(None),
        Value::Id(None),
        Value::Json(None),
    ];
    let sql = "SELECT COUNT(*) WHERE COALESCE($1, $2, $3, $4, $5, $6, $7) IS NULL";
    assert_eq!(control.count(sql, nothing).await.expect("ask"), 1);
}

/// Times within the years that both engines can store, to the microsecond, often on a whole second.
fn times() -> impl Strategy<Value = DateTime<Utc>> {
    let first = Utc.with_ymd_and_hms(1970, 1, 1, 0, 0, 0).single().expect("a time");
    let micros = prop_oneof![
        Just(0),
        Just(1),
        Just(500_000),
        Just(999_999),
        Just(100),
        Just(123_000),
        0..1_000_000_i64
    ];
    (prop_oneof![0..3_i64, 0..253_402_300_800_i64], micros)
        .prop_map(move |(s, us)| first + TimeDelta::seconds(s) + TimeDelta::microseconds(us))
}

#[test]
fn times_compare_in_the_database_as_they_do_in_the_program() {
    let runtime = runtime();
    let (_dir, control) = runtime.block_on(fresh());
    // SQLite keeps times as text: a fraction of a second must not sort before the whole second.
    proptest!(ProptestConfig::with_cases(64), |(pairs in prop::collection::vec((times(), times()), 8))| {
        for (a, b) in pairs {
            let order = "SELECT CASE WHEN $1 < $2 THEN -1 WHEN $1 = $2 THEN 0 ELSE 1 END";
            let stored = runtime
                .block_on(control.count(order, vec![a.into(), b.into()]))
                .expect("compare");
            prop_assert_eq!(stored, a.cmp(&b) as i64, "{} {}", a, b);
        }
    });
}
