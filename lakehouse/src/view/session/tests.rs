use super::*;
use crate::{ErrorKind, error::Error, testing::cells};

fn engine() -> Engine {
    Engine::new(&EngineLimits::default()).expect("engine")
}

async fn ask(session: &SessionContext, sql: &str) -> Result<Vec<Vec<String>>> {
    Ok(cells(&session.sql(sql).await?.collect().await?))
}

#[tokio::test]
async fn no_query_reaches_the_files_of_the_machine() {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("secret.csv"), "a\n1\n").expect("write");
    let session = engine().session();
    let path = dir.path().join("secret.csv").display().to_string();
    for sql in [
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'"),
        format!("SELECT * FROM '{path}'"),
        format!("COPY (SELECT 1) TO '{}/out.csv'", dir.path().display()),
    ] {
        assert!(ask(&session, &sql).await.is_err(), "{sql}");
    }
    assert!(!dir.path().join("out.csv").exists());
}

#[tokio::test]
async fn decimals_divide_without_losing_digits() {
    let session = engine().session();
    let one = async |sql: &str| ask(&session, sql).await.expect("a result")[0][0].clone();
    let third = one("SELECT CAST(1 AS DECIMAL(9, 2)) / 3").await;
    assert!(third.starts_with("0.33333333"), "{third}");
    let mixed = one("SELECT 1 / CAST(3 AS DECIMAL(9, 2))").await;
    assert!(mixed.starts_with("0.33333333"), "{mixed}");
    assert_eq!(one("SELECT 7 / 2").await, "3", "whole numbers divide as in SQL");
    assert_eq!(one("SELECT CAST(7 AS DECIMAL(9, 2)) * 2").await, "14.00");
}

#[tokio::test]
async fn times_are_of_utc() {
    let session = engine().session();
    let sql = "SELECT CAST(to_timestamp('2026-05-16T14:00:00+02:00') AS VARCHAR)";
    let found = ask(&session, sql).await.expect("a result");
    assert!(found[0][0].starts_with("2026-05-16T12:00:00"), "{found:?}");
}

#[tokio::test]
async fn a_query_over_the_limit_ends_with_an_error_that_passes_by_itself() {
    let limits = EngineLimits { memory: 1 << 20, spill: 0, ..EngineLimits::default() };
    let session = Engine::new(&limits).expect("engine").session();
    let sql = "SELECT a.value, count(*) FROM range(0, 150000) a GROUP BY a.value ORDER BY 1 DESC";
    let error = ask(&session, sql).await.expect_err("too much");
    assert_eq!(Error::from(error).kind(), ErrorKind::Unavailable);
    assert_eq!(ask(&session, "SELECT 1").await.expect("the next one"), [["1"]]);
}

#[test]
fn a_spill_folder_that_can_not_be_used_is_an_error() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("write");
    let limits = EngineLimits { spill_path: Some(file.join("below")), ..EngineLimits::default() };
    Engine::new(&limits).expect_err("a file is in the way");
}

#[tokio::test]
async fn limits_that_are_set_later_reach_sessions_that_exist_and_scopes_keep_theirs() {
    let engine = engine();
    assert!(engine.known_terms().is_none(), "not loaded yet");
    let scoped = engine.session_of(&["a".to_owned()]);
    let session = engine.session();
    let terms = crate::MeterTerms { end: 1000.0, ..Default::default() };
    engine.set_meters(Meters(std::collections::HashMap::from([("a".into(), terms)])));
    let sql = "SELECT counter_delta(v, t) FROM (VALUES
        ('a', 999.0, to_timestamp(60)), ('a', 1.0, to_timestamp(120)), ('a', 2.0, to_timestamp(180))
        ) AS x(device_id, v, t)";
    assert_eq!(ask(&session, sql).await.expect("a result"), [["3.0"]], "it rolled over at 1000");
    assert_eq!(ask(&scoped, sql).await.expect("a result"), [["1.0"]], "a reset");
    assert_eq!(engine.clone().meters().terms_of("a").end.to_string(), "1000");
}
