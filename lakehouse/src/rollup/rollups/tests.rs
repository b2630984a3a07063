use acuvim_wire::time::{DAY, HOUR, MINUTE, parse_rfc3339};
use chrono_tz::Tz;

use super::*;
use crate::{
    CompactionPolicy, Counter, ErrorKind, Lake, LakeOptions, MeterTerms, Meters,
    memory::Rows,
    rollup::QUARTER,
    testing::{
        Reading, T0, ask, engine, heartbeats, lake, next_of, options, push_rows, reading, store,
    },
};

fn at(text: &str) -> Micros {
    parse_rfc3339(text).expect(text)
}

fn zones(zone: Tz) -> Zones {
    Zones([("a".into(), zone)].into())
}

async fn up_to_date(lake: &Lake, zones: &Zones) {
    for _ in 0..50 {
        if lake.roll_up(zones).await.expect("roll up").is_none() {
            return;
        }
    }
    panic!("it has no end");
}

/// A reading of `a` with a counter in kWh.
fn energy(ts: Micros, kwh: f64) -> Reading<'static> {
    Reading { energy: Some(kwh), ..reading("a", ts) }
}

/// The quarters of `a` as (quarters after [`T0`], samples, consumption).
async fn quarters(lake: &Lake) -> Vec<(i64, i64, String)> {
    let sql = "SELECT CAST(ts AS BIGINT) AS t, samples, energy_import_kwh_delta FROM rollup_15m
        WHERE device_id = 'a' ORDER BY ts";
    let row = |row: Vec<String>| {
        let start: Micros = row[0].parse().expect("a time");
        ((start - T0).div_euclid(QUARTER), row[1].parse().expect("a number"), row[2].clone())
    };
    ask(lake, sql).await.into_iter().map(row).collect()
}

/// The days of `a` as (date, samples, consumption).
async fn days(lake: &Lake) -> Vec<(String, i64, String)> {
    let sql = "SELECT day, samples, energy_import_kwh_delta FROM rollup_daily
        WHERE device_id = 'a' ORDER BY ts";
    let row =
        |row: Vec<String>| (row[0].clone(), row[1].parse().expect("a number"), row[2].clone());
    ask(lake, sql).await.into_iter().map(row).collect()
}

fn day(date: &str, samples: i64, delta: &str) -> (String, i64, String) {
    (date.to_owned(), samples, delta.to_owned())
}

fn quarter(n: i64, samples: i64, delta: &str) -> (i64, i64, String) {
    (n, samples, delta.to_owned())
}

#[tokio::test]
async fn the_consumption_between_two_quarters_belongs_to_the_later_one() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let readings = [
        energy(T0, 1.0),
        energy(T0 + QUARTER - 1, 2.0),
        energy(T0 + QUARTER, 4.5),
        energy(T0 + 3 * QUARTER, 5.0),
    ];
    store(&lake, &readings).await;
    up_to_date(&lake, &Zones::default()).await;
    let wanted = [quarter(0, 2, "1.00"), quarter(1, 1, "2.50"), quarter(3, 1, "0.50")];
    assert_eq!(quarters(&lake).await, wanted);
    assert_eq!(days(&lake).await, [day("2026-05-16", 4, "4.00")]);
}

#[tokio::test]
async fn a_late_reading_changes_its_quarter_the_next_one_and_their_day() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    store(&lake, &[energy(T0, 1.0), energy(T0 + 2 * QUARTER, 4.0)]).await;
    up_to_date(&lake, &Zones::default()).await;
    assert_eq!(quarters(&lake).await, [quarter(0, 1, "0.00"), quarter(2, 1, "3.00")]);
    store(&lake, &[energy(T0 + QUARTER, 1.5), energy(T0 - DAY, 0.25)]).await;
    up_to_date(&lake, &Zones::default()).await;
    let wanted = [
        quarter(-96, 1, "0.00"),
        quarter(0, 1, "0.75"),
        quarter(1, 1, "0.50"),
        quarter(2, 1, "2.50"),
    ];
    assert_eq!(quarters(&lake).await, wanted);
    assert_eq!(days(&lake).await, [day("2026-05-15", 1, "0.00"), day("2026-05-16", 3, "3.75")]);
}

#[tokio::test]
async fn days_on_which_clocks_change_are_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let zones = zones(Tz::Europe__Berlin);
    // Midnight before and after the short and the long day, and a quarter on either side.
    let edges = ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"];
    let mut readings = Vec::new();
    for edge in edges {
        readings.extend([at(edge) - QUARTER, at(edge)].map(|ts| reading("a", ts)));
    }
    let summer = ["2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z"];
    for edge in summer {
        readings.extend([at(edge) - QUARTER, at(edge)].map(|ts| reading("a", ts)));
    }
    readings.sort_by_key(|reading| reading.ts);
    store(&lake, &readings).await;
    up_to_date(&lake, &zones).await;
    let found: Vec<_> =
        days(&lake).await.into_iter().map(|(day, samples, _)| (day, samples)).collect();
    let wanted = [
        ("2025-10-25", 1),
        ("2025-10-26", 2),
        ("2025-10-27", 1),
        ("2026-03-28", 1),
        ("2026-03-29", 2),
        ("2026-03-30", 1),
    ];
    assert_eq!(found, wanted.map(|(day, samples)| (day.to_owned(), samples)));
}

#[tokio::test]
async fn another_time_zone_moves_readings_between_days_and_loses_none() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let hours: Vec<_> = (0..30).map(|n| reading("a", T0 + n * HOUR)).collect();
    store(&lake, &hours).await;
    let all: [Arc<str>; 1] = ["a".into()];
    for zone in [Tz::UTC, Tz::Pacific__Kiritimati, Tz::Pacific__Pago_Pago] {
        let zones = zones(zone);
        up_to_date(&lake, &zones).await;
        let due = lake.devices_to_rezone(&zones).await.expect("devices");
        assert_eq!(due, all[..usize::from(zone != Tz::UTC)], "{zone}");
        lake.rezone(&due, &zones).await.expect("rezone");
        assert!(lake.devices_to_rezone(&zones).await.expect("devices").is_empty());
        let days = days(&lake).await;
        assert_eq!(days.iter().map(|day| day.1).sum::<i64>(), 30, "{zone}: {days:?}");
        let mut dates: Vec<_> = days.iter().map(|day| &day.0).collect();
        dates.dedup();
        assert_eq!(dates.len(), days.len(), "{zone}: each day once, {days:?}");
    }
}

/// The first quarter of a device lies at the end of a day of 25 hours in its former zone, and at the
/// beginning of a day in its new one.
#[tokio::test]
async fn a_long_day_of_the_former_time_zone_is_replaced_too() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let midnight = at("2025-11-03T03:00:00Z");
    assert_eq!(days_start(Tz::America__Sao_Paulo, midnight), midnight);
    assert!(midnight - days_start(Tz::America__St_Johns, midnight) > DAY);
    store(&lake, &[reading("a", midnight)]).await;
    up_to_date(&lake, &zones(Tz::America__St_Johns)).await;
    assert_eq!(days(&lake).await.len(), 1);
    lake.rezone(&["a".into()], &zones(Tz::America__Sao_Paulo)).await.expect("rezone");
    let dates: Vec<_> = days(&lake).await.into_iter().map(|day| day.0).collect();
    assert_eq!(dates, ["2025-11-03"], "not the day of the former zone beside it");
}

fn days_start(zone: Tz, ts: Micros) -> Micros {
    crate::rollup::calendar::days(zone).expect("days").start(ts).expect("a day")
}

#[tokio::test]
async fn retention_of_readings_leaves_what_was_rolled_up() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let zones = Zones::default();
    store(&lake, &[energy(T0, 1.0), energy(T0 + DAY, 3.0)]).await;
    up_to_date(&lake, &zones).await;
    let before = (quarters(&lake).await, days(&lake).await);
    let today = acuvim_wire::time::day_of(T0);
    lake.retain(Table::Telemetry, today + 1, T0).await.expect("retain");
    up_to_date(&lake, &zones).await;
    lake.recount(&["a".into()], &zones).await.expect("recount");
    assert_eq!((quarters(&lake).await, days(&lake).await), before);
    // A late reading of the day that is gone: its quarter is computed from what is left.
    store(&lake, &[energy(T0 + HOUR, 2.0)]).await;
    up_to_date(&lake, &zones).await;
    assert_eq!(
        quarters(&lake).await,
        [quarter(0, 1, "0.00"), quarter(4, 1, "1.00"), quarter(96, 1, "1.00")]
    );
}

#[tokio::test]
async fn limits_that_become_known_are_applied_to_what_is_stored() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let zones = Zones::default();
    // A counter that rolls over at 1000, which nobody has said yet.
    let values = [998.0, 1.0, 2.0];
    let readings: Vec<_> =
        (0..).zip(values).map(|(n, kwh)| energy(T0 + n * QUARTER, kwh)).collect();
    store(&lake, &readings).await;
    up_to_date(&lake, &zones).await;
    assert_eq!(days(&lake).await, [day("2026-05-16", 3, "1.00")], "a reset");
    let terms = MeterTerms { end: 1000.0, ..MeterTerms::default() };
    lake.engine().set_meters(Meters([("a".into(), terms)].into()));
    lake.recount(&[], &zones).await.expect("nobody");
    assert_eq!(days(&lake).await, [day("2026-05-16", 3, "1.00")]);
    lake.recount(&["a".into()], &zones).await.expect("recount");
    assert_eq!(days(&lake).await, [day("2026-05-16", 3, "4.00")]);
    assert_eq!(Counter::of("energy_import_kwh"), Some(Counter::Total));
}

#[tokio::test]
async fn a_suspect_reading_of_a_quarter_is_found_out_by_the_next_one() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let zones = Zones::default();
    store(&lake, &[energy(T0, 10.0), energy(T0 + MINUTE, 60.0)]).await;
    up_to_date(&lake, &zones).await;
    assert_eq!(quarters(&lake).await, [quarter(0, 2, "50.00")], "nothing contradicts it yet");
    // A new process has only the stored state of the counter.
    drop(lake);
    let lake = crate::testing::lake(dir.path()).await;
    store(&lake, &[energy(T0 + QUARTER, 11.0)]).await;
    up_to_date(&lake, &zones).await;
    assert_eq!(quarters(&lake).await, [quarter(0, 2, "0.00"), quarter(1, 1, "1.00")]);
    assert_eq!(days(&lake).await, [day("2026-05-16", 3, "1.00")]);
    let suspects = "SELECT energy_import_kwh_suspect FROM rollup_daily";
    assert_eq!(ask(&lake, suspects).await, [["1"]]);
}

#[tokio::test]
async fn another_meter_counts_from_its_own_first_reading() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let report = |ts, serial| {
        let heartbeats = heartbeats(next_of(&lake, 0), &[("a", ts, serial)]);
        push_rows(&lake, 0, Rows { heartbeats, ..Rows::none() });
    };
    report(T0 - MINUTE, "m1");
    report(T0 + QUARTER, "m2");
    let readings = [
        energy(T0, 10.0),
        energy(T0 + MINUTE, 12.0),
        energy(T0 + QUARTER + MINUTE, 500.0),
        energy(T0 + QUARTER + 2 * MINUTE, 501.0),
    ];
    store(&lake, &readings).await;
    up_to_date(&lake, &Zones::default()).await;
    assert_eq!(quarters(&lake).await, [quarter(0, 2, "2.00"), quarter(1, 2, "1.00")]);
    let serials = "SELECT meter_serial FROM rollup_15m ORDER BY ts";
    assert_eq!(ask(&lake, serials).await, [["m1"], ["m2"]]);
}

#[tokio::test]
async fn history_is_built_day_by_day_while_new_readings_are_followed() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let zones = Zones::default();
    store(&lake, &[0, 1].map(|day| energy(T0 + day * DAY, 1.0))).await;
    let begun = lake.roll_up(&zones).await.expect("roll up").expect("something");
    assert_eq!(begun, RolledUp { buckets: 0, more: true });
    assert!(!lake.rollups_are_built().await.expect("known"));
    assert!(lake.not_rolled_up("a").await.expect("known").is_none(), "while history is built");
    store(&lake, &[energy(T0 + 3 * DAY, 2.0)]).await;
    lake.roll_up(&zones).await.expect("roll up").expect("something");
    let dates: Vec<_> = days(&lake).await.into_iter().map(|day| day.0).collect();
    assert_eq!(dates, ["2026-05-16", "2026-05-19"], "the oldest, and what has just come");
    // A restart goes on with the next day.
    drop(lake);
    let lake = crate::testing::lake(dir.path()).await;
    up_to_date(&lake, &zones).await;
    assert_eq!(days(&lake).await.len(), 3);
    assert!(lake.rollups_are_built().await.expect("known"));
    assert!(lake.not_rolled_up("a").await.expect("known").is_some());
}

/// The number of readings of `a` that no rollup has.
async fn beyond(lake: &Lake) -> usize {
    let of = lake.not_rolled_up("a").await.expect("known").expect("history is built");
    let view = lake.view(true).expect("view");
    let rows = of.among(&view.table(Table::Telemetry).expect("telemetry"));
    let rows = lake.engine().session().read_table(Arc::new(rows)).expect("table");
    let is_a = datafusion::prelude::col("device_id").eq(datafusion::prelude::lit("a"));
    rows.filter(of.which.and(is_a)).expect("filter").count().await.expect("count")
}

#[tokio::test]
async fn what_is_in_no_rollup_is_known_before_and_after_merges_and_restarts() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let zones = Zones::default();
    store(&lake, &[energy(T0, 1.0)]).await;
    up_to_date(&lake, &zones).await;
    assert_eq!(beyond(&lake).await, 0);
    store(&lake, &[energy(T0 + 1, 1.0)]).await;
    store(&lake, &[energy(T0 - DAY, 1.0), reading("b", T0)]).await;
    crate::testing::push(&lake, &[energy(T0 + 2, 1.0)]);
    assert_eq!(beyond(&lake).await, 3, "committed, late, and in the tail");
    let policy = CompactionPolicy { fan_in: 2, ..CompactionPolicy::default() };
    assert!(lake.compact(policy, 0).await.expect("compact").is_some());
    assert_eq!(beyond(&lake).await, 3, "merged with one that is rolled up");
    drop(lake);
    let lake = crate::testing::lake(dir.path()).await;
    assert_eq!(beyond(&lake).await, 2, "the tail is gone");
    up_to_date(&lake, &zones).await;
    assert_eq!(beyond(&lake).await, 0);
}

#[tokio::test]
async fn of_two_processes_that_roll_up_one_is_told_to_wait() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) = (lake(dir.path()).await, lake(dir.path()).await);
    let zones = Zones::default();
    store(&one, &[energy(T0, 1.0)]).await;
    two.catch_up().await.expect("catch up");
    up_to_date(&one, &zones).await;
    let error = two.roll_up(&zones).await.expect_err("the other was faster");
    assert_eq!(error.kind(), ErrorKind::Overtaken);
    two.catch_up().await.expect("catch up");
    up_to_date(&two, &zones).await;
    assert_eq!(quarters(&two).await, [quarter(0, 1, "0.00")], "nothing is there twice");
}

#[tokio::test]
async fn without_readings_there_is_nothing_to_do_after_the_first_step() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let zones = Zones::default();
    assert!(lake.roll_up(&zones).await.expect("roll up").is_some());
    assert!(lake.roll_up(&zones).await.expect("roll up").is_none());
    assert!(lake.devices_to_rezone(&zones).await.expect("devices").is_empty());
    lake.rezone(&["a".into()], &zones).await.expect("nothing to compute from");
    // Another epoch of the log begins anew.
    let options = LakeOptions { epoch: 1, ..options(dir.path()) };
    let next = Lake::open(options, engine()).await.expect("open");
    assert!(!next.rollups_are_built().await.expect("known"));
}
