use acuvim_wire::time::{DAY, day_of};

use super::*;
use crate::{
    ErrorKind, Lake, Zones,
    testing::{T0, ask, lake, reading, store},
};

#[test]
fn a_day_is_removed_only_if_it_is_before_the_first_that_stays() {
    let file = |date| File { date, ..File::named("f", 0) };
    assert!(is_expired(&file(19), 20));
    assert!(!is_expired(&file(20), 20));
    assert!(!is_expired(&file(21), 20));
    assert!(!is_expired(&file(0), 20), "a day that could not be read is kept");
    assert!(!is_expired(&file(-1), 20));
    assert!(!is_expired(&file(5), -20));
}

async fn with_days(dir: &std::path::Path) -> Lake {
    let lake = lake(dir).await;
    let days = [0, 1, 2].map(|day| reading("a", T0 + day * DAY));
    store(&lake, &days).await;
    store(&lake, &[reading("b", T0)]).await;
    lake
}

#[tokio::test]
async fn whole_days_go_and_what_went_is_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_days(dir.path()).await;
    let today = day_of(T0);
    let telemetry = Table::Telemetry;
    assert_eq!(lake.retained_at(telemetry).await.expect("known"), None);
    let none = lake.retain(telemetry, today, T0 + 5).await.expect("retain");
    assert_eq!(none, Retained::default());
    assert_eq!(lake.retained_at(telemetry).await.expect("known"), None, "nothing was removed");
    let gone = lake.retain(telemetry, today + 1, T0 + 6).await.expect("retain");
    assert_eq!((gone.days, gone.files, gone.rows), (1, 2, 2));
    assert_eq!(lake.retained_at(telemetry).await.expect("known"), Some(T0 + 6));
    assert_eq!(ask(&lake, "SELECT count(*) FROM telemetry").await, [["2"]]);
    assert_eq!(lake.newest_day(telemetry), Some(today + 2));
    lake.retain(telemetry, today + 100, T0 + 7).await.expect("retain");
    assert_eq!(
        (lake.newest_day(telemetry), lake.next_offset(lake.newest().partition("a"))),
        (None, 3)
    );
}

#[tokio::test]
async fn each_table_is_retained_on_its_own() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_days(dir.path()).await;
    while lake.roll_up(&Zones::default()).await.expect("roll up").is_some() {}
    lake.retain(Table::Telemetry, day_of(T0) + 2, T0).await.expect("retain");
    lake.retain(Table::Rollup15m, day_of(T0) + 1, T0).await.expect("retain");
    let count = async |table: &str| ask(&lake, &format!("SELECT count(*) FROM {table}")).await;
    assert_eq!(count("telemetry").await, [["1"]]);
    assert_eq!(count("rollup_15m").await, [["2"]]);
    assert_eq!(count("rollup_daily").await, [["4"]]);
    assert_eq!(lake.retained_at(Table::RollupDaily).await.expect("known"), None);
}

#[tokio::test]
async fn of_two_processes_that_remove_the_same_days_one_fails_and_finds_nothing_left() {
    let dir = tempfile::tempdir().expect("dir");
    let one = with_days(dir.path()).await;
    let two = lake(dir.path()).await;
    let before = day_of(T0) + 1;
    one.retain(Table::Telemetry, before, T0).await.expect("retain");
    let error = two.retain(Table::Telemetry, before, T0).await.expect_err("the other was faster");
    assert_eq!(error.kind(), ErrorKind::Overtaken, "{error}");
    let again = two.retain(Table::Telemetry, before, T0).await.expect("retain");
    assert_eq!(again, Retained::default());
}
