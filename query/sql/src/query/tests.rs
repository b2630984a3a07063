//! Whole queries over a small fleet: what a caller sees, and how it is told what went wrong.

use std::time::Duration;

use acuvim_model::{Consistency, Scope, SqlFormat, SqlRequest, SqlResponse};
use serde_json::{Value, json};

use super::*;
use crate::{
    QueryError, SqlLimits,
    testing::{Fleet, bytes_of, scope},
};

fn request(query: &str) -> SqlRequest {
    serde_json::from_value(json!({ "query": query })).expect("a request")
}

async fn answered(
    fleet: &Fleet,
    request: SqlRequest,
    scope: Option<Scope>,
) -> Result<SqlResponse, QueryError> {
    let (facts, body) = run(&fleet.sql, request, SqlFormat::Json, scope).await?;
    let text = bytes_of(body).await.expect("whole");
    let response: SqlResponse = serde_json::from_slice(&text).expect("a response");
    assert_eq!((facts.row_count, facts.truncated), (response.row_count, response.truncated));
    assert_eq!(facts.view.lake_version, response.lake_version);
    Ok(response)
}

async fn rows(fleet: &Fleet, query: &str, scope: Option<Scope>) -> Vec<Vec<Value>> {
    answered(fleet, request(query), scope).await.expect(query).rows
}

async fn refused(fleet: &Fleet, request: SqlRequest) -> (u16, String) {
    let problem = answered(fleet, request, None).await.expect_err("refused").problem;
    (problem.status, problem.detail)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_holds_wherever_a_query_names_a_table() {
    let fleet = Fleet::new().await;
    let devices = "SELECT DISTINCT device_id FROM";
    for table in ["telemetry", "devices", "dead_letters"] {
        for query in [
            format!("{devices} {table} ORDER BY 1"),
            format!("{devices} {table} WHERE device_id = 'b' OR 1 = 1 ORDER BY 1"),
            format!("{devices} (SELECT * FROM {table}) AS t ORDER BY 1"),
            format!("WITH t AS (SELECT * FROM {table}) {devices} t ORDER BY 1"),
            format!("{devices} {table} UNION SELECT device_id FROM {table} ORDER BY 1"),
            format!(
                "{devices} devices WHERE device_id IN (SELECT device_id FROM {table}) ORDER BY 1"
            ),
            format!(
                "SELECT x.device_id FROM {table} x JOIN devices y USING (device_id) GROUP BY 1 ORDER BY 1"
            ),
        ] {
            let everything = rows(&fleet, &query, None).await;
            // Only `a` has sent something that could not be used.
            let all = if table == "dead_letters" { vec!["a"] } else { vec!["a", "b"] };
            assert_eq!(everything.concat(), all, "{query}");
            let of_a = rows(&fleet, &query, Some(scope(&["a"]))).await;
            assert_eq!(of_a, [[json!("a")]], "{query}");
            let of_b = rows(&fleet, &query, Some(scope(&["b"]))).await;
            assert!(!of_b.concat().contains(&json!("a")), "{query}");
            let of_none = rows(&fleet, &query, Some(scope(&[]))).await;
            assert!(of_none.is_empty(), "an empty scope sees nothing: {query}");
        }
    }
    let counted = rows(&fleet, "SELECT count(*) FROM telemetry", Some(scope(&["b", "c"]))).await;
    assert_eq!(counted, [[json!(10)]], "also where no column is read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_sees_lake_and_tail_or_the_lake_alone_or_a_version_of_it() {
    let fleet = Fleet::new().await;
    let count = || request("SELECT count(*) FROM telemetry");
    let hot = answered(&fleet, count(), None).await.expect("hot");
    assert_eq!((hot.rows.concat(), hot.watermark), (vec![json!(20)], vec![22]));
    let lake = SqlRequest { consistency: Some(Consistency::Lake), ..count() };
    let lake = answered(&fleet, lake, None).await.expect("lake");
    assert_eq!((lake.rows.concat(), lake.watermark), (vec![json!(10)], vec![11]));
    let at = |version| SqlRequest { at_version: Some(version), ..count() };
    let then = answered(&fleet, at(lake.lake_version), None).await.expect("that version");
    assert_eq!(then.rows.concat(), [json!(10)]);
    let (status, detail) = refused(&fleet, at(lake.lake_version + 5)).await;
    assert!(status == 400 && detail.starts_with("at_version"), "{detail}");
    let both = SqlRequest { consistency: Some(Consistency::Hot), ..at(lake.lake_version) };
    let (_, detail) = refused(&fleet, both).await;
    assert!(detail.contains("not with hot"), "{detail}");
    let other =
        SqlRequest { query: "SELECT 1 FROM heartbeats".to_owned(), ..at(lake.lake_version) };
    let (_, detail) = refused(&fleet, other).await;
    assert!(detail.contains("heartbeats has none such"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_tail_only_the_lake_answers() {
    let reason = || Some("the stream is catching up".to_owned());
    let fleet = Fleet::with(SqlLimits::default(), reason).await;
    let (status, detail) = refused(&fleet, request("SELECT 1")).await;
    assert_eq!(status, 503);
    assert!(
        detail.contains("catching up") && detail.contains("\"consistency\": \"lake\""),
        "{detail}"
    );
    let count = request("SELECT count(*) FROM telemetry");
    let lake = SqlRequest { consistency: Some(Consistency::Lake), ..count };
    assert_eq!(answered(&fleet, lake, None).await.expect("the lake").rows, [[json!(10)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_can_ask_for_less_than_the_limits_and_not_for_more() {
    let limits = SqlLimits { max_rows: 5, max_cells: 8, ..SqlLimits::default() };
    let fleet = Fleet::with(limits, || None).await;
    let all = || request("SELECT ts FROM telemetry");
    for (asked, given) in [(None, 5), (Some(3), 3), (Some(0), 0), (Some(1000), 5)] {
        let some = answered(&fleet, SqlRequest { max_rows: asked, ..all() }, None).await;
        let some = some.expect("rows");
        assert_eq!((some.row_count, some.truncated), (given, true), "{asked:?}");
    }
    let wide = request("SELECT ts, device_id, received_at FROM telemetry");
    let (status, detail) = refused(&fleet, wide).await;
    assert_eq!(status, 422);
    assert!(detail.contains("8 cells") && detail.contains("3 columns is 2 rows"), "{detail}");
    let (status, detail) = refused(&fleet, SqlRequest { timeout_ms: Some(0), ..all() }).await;
    assert!(status == 400 && detail.contains("timeout_ms"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_or_waits_too_long_is_told_so() {
    let limits = SqlLimits { concurrent: 1, ..SqlLimits::default() };
    let fleet = Fleet::with(limits, || None).await;
    let held = fleet.sql.permit(crate::engine::Lane::Queries).await.expect("the only permit");
    let (status, detail) =
        refused(&fleet, SqlRequest { timeout_ms: Some(30), ..request("SELECT 1") }).await;
    assert_eq!((status, detail.as_str()), (504, "the query took longer than 30 ms"));
    drop(held);
    // The one that gave up left its place in the queue.
    let waited = tokio::time::timeout(Duration::from_secs(60), rows(&fleet, "SELECT 1", None));
    assert_eq!(waited.await.expect("in time"), [[json!(1)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_query_is_the_callers_to_change() {
    let fleet = Fleet::new().await;
    for (query, why) in [
        ("SELECT nothing FROM telemetry", "nothing"),
        ("SELECT 1 FROM nowhere", "nowhere"),
        ("DELETE FROM telemetry", "only a SELECT"),
        ("SELECT 1 / 0", "ivide"),
        ("SELECT CAST('x' AS BIGINT)", "x"),
        ("SELECT $1", "1 parameters, 0 were given"),
        ("SELECT from_unixtime(99999999999999)", "years 1 to 9999"),
    ] {
        let (status, detail) = refused(&fleet, request(query)).await;
        assert_eq!(status, 400, "{query}: {detail}");
        assert!(detail.contains(why) && !detail.contains('\n'), "{query}: {detail}");
    }
    // None of them has kept a permit.
    for _ in 0..SqlLimits::default().concurrent {
        rows(&fleet, "SELECT 1", None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_values_and_never_text_of_the_query() {
    let fleet = Fleet::new().await;
    let with = |params: Value| SqlRequest {
        params: params.as_array().expect("a list").clone(),
        ..request("SELECT count(*) FROM telemetry WHERE device_id = $1")
    };
    for (param, count) in [("a", 10), ("a' OR '1' = '1", 0), ("$1", 0), ("", 0)] {
        let found = answered(&fleet, with(json!([param])), None).await.expect("rows");
        assert_eq!(found.rows, [[json!(count)]], "{param}");
    }
    let (status, detail) = refused(&fleet, with(json!([["a"]]))).await;
    assert!(status == 400 && detail.contains("params"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named_and_other_queries_go_on() {
    let fleet = Fleet::new().await;
    fleet.tear_files();
    let lake = SqlRequest {
        consistency: Some(Consistency::Lake),
        ..request("SELECT avg(voltage_l1_v) FROM telemetry")
    };
    let (status, detail) = refused(&fleet, lake).await;
    assert_eq!(status, 500);
    assert!(detail.contains(".parquet") && detail.contains("other days"), "{detail}");
    assert_eq!(rows(&fleet, "SELECT count(*) FROM devices", None).await, [[json!(2)]]);
}
