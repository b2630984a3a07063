use super::*;
use serde_json::json;

#[test]
fn a_query_needs_its_text_alone_and_takes_no_unknown_field() {
    let request = |json: Value| serde_json::from_value::<SqlRequest>(json);
    let least = request(json!({ "query": "SELECT 1" })).expect("a request");
    assert!(least.params.is_empty() && least.format.is_none() && least.consistency.is_none());
    assert!(least.at_version.is_none() && least.timeout_ms.is_none() && least.max_rows.is_none());
    for bad in [
        json!({}),
        json!({ "sql": "SELECT 1" }),
        json!({ "query": "SELECT 1", "limit": 5 }),
        json!({ "query": "SELECT 1", "format": "CSV" }),
        json!({ "query": "SELECT 1", "format": "parquet" }),
        json!({ "query": "SELECT 1", "consistency": "eventual" }),
        json!({ "query": "SELECT 1", "timeout_ms": -1 }),
        json!({ "query": "SELECT 1", "params": { "1": 2 } }),
    ] {
        assert!(request(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn a_column_has_its_type_under_the_name_type() {
    let column = SqlColumn { name: "n".into(), r#type: "Int64".into() };
    let json = serde_json::to_value(&column).expect("JSON");
    assert_eq!(json, json!({ "name": "n", "type": "Int64" }));
    assert_eq!(serde_json::from_value::<SqlColumn>(json).expect("a column"), column);
}
