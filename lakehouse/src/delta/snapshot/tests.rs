use super::*;

fn bounds(text: &str) -> Bounds {
    let stats: Statistics = serde_json::from_str(text).unwrap_or_default();
    stats.bounds(Table::Telemetry)
}

fn min_max<T>(min: T, max: T) -> Option<MinMax<T>> {
    Some(MinMax { min, max })
}

#[test]
fn bounds_are_what_delta_says_and_never_narrower() {
    let text = r#"{"numRecords":3,
        "minValues":{"device_id":"a","ts":"2026-05-16T17:05:32.250Z","offset":7},
        "maxValues":{"device_id":"c","ts":"2026-05-16T17:05:33.250Z","offset":9},
        "nullCount":{"device_id":0,"ts":0}}"#;
    let bounds = bounds(text);
    assert_eq!(bounds.by, min_max("a".into(), "c".into()));
    assert_eq!(bounds.time, min_max(1_778_951_132_250_000, 1_778_951_133_250_999));
    assert_eq!(bounds.offset, min_max(7, 9));
    assert_eq!(Statistics::default().bounds(Table::Telemetry), Bounds::default());
}

#[test]
fn a_file_with_a_row_of_no_device_is_before_nothing() {
    let text = r#"{"minValues":{"device_id":"a"},"maxValues":{"device_id":"c"},
        "nullCount":{"device_id":1}}"#;
    let stats: Statistics = serde_json::from_str(text).expect("statistics");
    assert_eq!(stats.bounds(Table::DeadLetters).by, None);
}

#[test]
fn a_file_without_a_count_of_nulls_may_have_some() {
    let text = r#"{"minValues":{"device_id":"a"},"maxValues":{"device_id":"c"}}"#;
    assert_eq!(bounds(text).by, None);
}

#[test]
fn half_of_a_bound_and_bounds_of_another_type_are_unknown() {
    for text in [
        r#"{"minValues":{"offset":7,"ts":"2026-05-16T17:05:32Z"}}"#,
        r#"{"maxValues":{"offset":7,"ts":"2026-05-16T17:05:32Z"}}"#,
        r#"{"minValues":{"offset":"7","ts":7},"maxValues":{"offset":9.5,"ts":"today"}}"#,
        r#"{"minValues":[],"maxValues":{}}"#,
        "not JSON",
        "",
    ] {
        assert_eq!(bounds(text), Bounds::default(), "{text}");
    }
}

#[test]
fn each_table_has_the_bounds_of_its_own_columns() {
    let text = r#"{
        "minValues":{"device_id":"a","ts":"2026-05-16T00:00:00Z","received_at":"2026-05-17T00:00:00Z"},
        "maxValues":{"device_id":"a","ts":"2026-05-16T00:00:00Z","received_at":"2026-05-17T00:00:00Z"},
        "nullCount":{"device_id":0}}"#;
    let stats: Statistics = serde_json::from_str(text).expect("statistics");
    let least = |table| stats.bounds(table).time.map(|times| times.min);
    let (ts, received_at) = (1_778_889_600_000_000, 1_778_976_000_000_000);
    assert_eq!(least(Table::Telemetry), Some(ts));
    assert_eq!(least(Table::DeadLetters), Some(received_at));
    assert_eq!(least(Table::Ledger), None, "it has no `minute`");
}
