//! Latest readings and readings between two times, of a small fleet.

use serde_json::Value;

use super::*;
use crate::{
    SqlLimits,
    testing::{Fleet, bytes_of, minute},
};

async fn voltage(fleet: &Fleet, device: &str, before: Option<i64>) -> Option<f64> {
    let latest = latest_of_device(&fleet.sql, device, before.map(minute)).await.expect("readable");
    let reading: Value = serde_json::from_slice(&latest?).expect("JSON");
    assert_eq!(reading["device_id"], device);
    reading["data"]["voltage_l1_v"].as_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_reading_is_the_one_with_the_highest_time_before_another() {
    let fleet = Fleet::new().await;
    assert_eq!(voltage(&fleet, "a", None).await, Some(230.9));
    assert_eq!(voltage(&fleet, "c", None).await, None);
    // A time after all readings changes nothing; the time itself is not before it.
    assert_eq!(voltage(&fleet, "a", Some(10)).await, Some(230.9));
    assert_eq!(voltage(&fleet, "a", Some(9)).await, Some(230.8), "in the tail");
    assert_eq!(voltage(&fleet, "b", Some(5)).await, Some(110.4), "in the lake");
    assert_eq!(voltage(&fleet, "b", Some(0)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_between_two_times_have_both_ends() {
    let fleet = Fleet::new().await;
    let between = async |device: &str, range: std::ops::RangeInclusive<i64>, limit| {
        let range = minute(*range.start())..=minute(*range.end());
        let found = readings_between(&fleet.sql, device, range, limit).await.expect("readable");
        let volts = found.readings.iter().map(|r| r["voltage_l1_v"].as_f64().expect("a voltage"));
        (volts.collect::<Vec<_>>(), found.truncated)
    };
    // Over the end of the lake, in order of time.
    assert_eq!(between("a", 3..=6, 99).await, (vec![230.3, 230.4, 230.5, 230.6], false));
    assert!(!between("a", 3..=6, 4).await.1, "exactly as many as there are");
    assert_eq!(between("a", 3..=6, 3).await, (vec![230.3, 230.4, 230.5], true));
    assert_eq!(between("a", 20..=30, 3).await, (vec![], false));
    assert_eq!(between("c", 0..=30, 3).await, (vec![], false));
    let row = readings_between(&fleet.sql, "b", minute(0)..=minute(0), 1).await.expect("readable");
    assert!(!row.readings[0].contains_key("date") && !row.readings[0].contains_key("voltage_l2_v"));
    assert_eq!(row.view.watermark, [22]);
}

async fn page(fleet: &Fleet, among: Option<&[&str]>, cursor: Option<&str>, limit: usize) -> Value {
    let query = LatestQuery {
        among: among.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()),
        names: vec!["voltage_l1_v"],
        cursor: cursor.map(str::to_owned),
        limit,
    };
    let body = latest_of_fleet(&fleet.sql, query).await.expect("a page");
    serde_json::from_slice(&bytes_of(body).await.expect("whole")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_paged_by_device() {
    let fleet = Fleet::new().await;
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|item| item["device_id"].as_str().expect("an id").to_owned()).collect()
    };
    let first = page(&fleet, None, None, 1).await;
    assert_eq!((ids(&first), &first["total"]), (vec!["a".to_owned()], &Value::from(2)));
    assert_eq!(first["next_cursor"], "a");
    let last = page(&fleet, None, Some("a"), 1).await;
    assert_eq!((ids(&last), &last["next_cursor"]), (vec!["b".to_owned()], &Value::Null));
    let all = page(&fleet, None, None, 2).await;
    assert_eq!((ids(&all).len(), &all["next_cursor"]), (2, &Value::Null), "a full last page");
    // A cursor need not be a device that is still there.
    assert_eq!(ids(&page(&fleet, None, Some("aa"), 9).await), ["b"]);
    assert!(ids(&page(&fleet, None, Some("z"), 9).await).is_empty());
    let some = page(&fleet, Some(&["b", "nobody"]), None, 9).await;
    assert_eq!((ids(&some), &some["total"]), (vec!["b".to_owned()], &Value::from(1)));
    let none = page(&fleet, Some(&[]), None, 9).await;
    assert_eq!(none["total"], 0, "no devices are not all devices");
    let data = first["items"][0]["data"].as_object().expect("data");
    assert_eq!(data.keys().collect::<Vec<_>>(), ["voltage_l1_v"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_latest_while_the_tail_is_behind() {
    let fleet = Fleet::with(SqlLimits::default(), || Some("behind".to_owned())).await;
    let query = LatestQuery { among: None, names: vec![], cursor: None, limit: 1 };
    let error = latest_of_fleet(&fleet.sql, query).await.expect_err("behind");
    assert_eq!((error.problem.status, error.problem.detail.as_str()), (503, "behind"));
    let between = readings_between(&fleet.sql, "a", 0..=1, 1).await.expect_err("behind");
    assert_eq!(between.problem.status, 503);
    let rows = rows_of(&fleet.sql, "SELECT 1".to_owned()).await.expect_err("behind");
    assert_eq!(rows.problem.status, 503);
}
