use acuvim_wire::time::DAY;

use super::*;
use crate::{
    Lake,
    testing::{T0, ask, lake, pairs, push, reading, rows_of, store},
};

/// A lake with committed readings of two devices, and later and earlier ones in the tail.
async fn with_both(dir: &std::path::Path) -> Lake {
    let lake = lake(dir).await;
    store(&lake, &[reading("a", T0 + 2), reading("b", T0 + 3), reading("a", T0 + 8)]).await;
    push(&lake, &[reading("a", T0 + 9), reading("a", T0 + 5), reading("b", T0 + 1)]);
    lake
}

async fn times(view: &View, sql: &str) -> Vec<i64> {
    pairs(&rows_of(view, sql).await).into_iter().map(|(_, ts)| ts - T0).collect()
}

#[tokio::test]
async fn one_devices_rows_are_merged_in_order_from_files_and_tail() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_both(dir.path()).await;
    let view = lake.view(true).expect("view");
    let sql = "SELECT device_id, ts FROM telemetry WHERE device_id = 'a' ORDER BY ts";
    assert_eq!(times(&view, sql).await, [2, 5, 8, 9]);
    assert_eq!(times(&view, &format!("{sql} DESC LIMIT 2")).await, [9, 8]);
    let all = "SELECT device_id, ts FROM telemetry ORDER BY ts";
    assert_eq!(times(&view, all).await, [1, 2, 3, 5, 8, 9]);
    assert_eq!(times(&lake.view(false).expect("view"), all).await, [2, 3, 8]);
}

#[tokio::test]
async fn filters_hold_for_rows_of_the_tail_too() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_both(dir.path()).await;
    let view = lake.view(true).expect("view");
    let since = |n: i64| format!("ts >= to_timestamp_micros({})", T0 + n);
    let sql = format!("SELECT device_id, ts FROM telemetry WHERE {} ORDER BY ts", since(8));
    assert_eq!(times(&view, &sql).await, [8, 9]);
    let none = "SELECT device_id, ts FROM telemetry WHERE device_id = 'c'";
    assert!(times(&view, none).await.is_empty());
    let neither = "SELECT device_id, ts FROM telemetry WHERE device_id = 'a' AND device_id = 'b'";
    assert!(times(&view, neither).await.is_empty());
}

#[tokio::test]
async fn columns_come_in_the_order_in_which_they_are_asked_for() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_both(dir.path()).await;
    let sql = "SELECT voltage_l1_v, date, device_id FROM telemetry WHERE device_id = 'b'";
    let row = ["230.40", "2026-05-16", "b"].map(str::to_owned).to_vec();
    assert_eq!(ask(&lake, sql).await, [row.clone(), row]);
    let count = "SELECT count(*) FROM telemetry";
    assert_eq!(ask(&lake, count).await, [["6"]], "no column at all");
}

#[tokio::test]
async fn a_lake_without_rows_has_empty_tables() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for table in Table::ALL {
        let sql = format!("SELECT count(*) FROM {}", table.name());
        assert_eq!(ask(&lake, &sql).await, [["0"]]);
        let all = ask(&lake, &format!("SELECT * FROM {}", table.name())).await;
        assert!(all.is_empty());
    }
}

#[tokio::test]
async fn only_some_files_and_the_whole_tail() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    store(&lake, &[reading("a", T0)]).await;
    store(&lake, &[reading("a", T0 + DAY)]).await;
    push(&lake, &[reading("a", T0 + 5)]);
    let view = lake.view(true).expect("view");
    let telemetry = view.table(Table::Telemetry).expect("telemetry");
    let today = acuvim_wire::time::day_of(T0);
    let only = telemetry.only(|file| file.date > today);
    let session = crate::testing::engine().session();
    session.register_table("t", Arc::new(only)).expect("register");
    let sql = "SELECT device_id, ts FROM t ORDER BY ts";
    let rows = session.sql(sql).await.expect("plan").collect().await.expect("run");
    let times: Vec<i64> = pairs(&rows).into_iter().map(|(_, ts)| ts - T0).collect();
    assert_eq!(times, [5, DAY]);
}

#[tokio::test]
async fn the_watermark_is_what_was_read_and_at_least_what_is_stored() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_both(dir.path()).await;
    let (hot, cold) = (lake.view(true).expect("view"), lake.view(false).expect("view"));
    assert_eq!(hot.watermark.iter().sum::<i64>(), 6, "a record for each reading");
    assert_eq!(cold.watermark.iter().sum::<i64>(), 3);
    (0..4).for_each(|partition| lake.unfollow(partition));
    assert_eq!(lake.view(true).expect("view").watermark, cold.watermark);
}

#[tokio::test]
async fn a_view_does_not_change_while_rows_are_flushed_and_merged() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_both(dir.path()).await;
    let before = lake.view(true).expect("view");
    push(&lake, &[reading("a", T0 + 20)]);
    lake.flush(true).await.expect("flush");
    let policy = crate::CompactionPolicy { fan_in: 2, ..Default::default() };
    assert!(lake.compact(policy, 0).await.expect("compact").is_some());
    let sql = "SELECT device_id, ts FROM telemetry ORDER BY ts";
    assert_eq!(times(&before, sql).await, [1, 2, 3, 5, 8, 9]);
    let after = lake.view(true).expect("view");
    assert_eq!(times(&after, sql).await, [1, 2, 3, 5, 8, 9, 20]);
}
