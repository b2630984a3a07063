//! Rollups compared with a simple computation over all readings, in any order and portions of arrival, with
//! compactions, restarts and meter replacements in between.

mod oracle;
mod order;
mod story;

use std::{collections::HashMap, sync::Arc, time::Duration};

use acuvim_lakehouse::{CompactionPolicy, Lake, QUARTER, Zones};
use acuvim_tables::Table;
use acuvim_wire::time::{DAY, HOUR};
use arrow::{
    array::{Array as _, AsArray as _},
    datatypes::{Date32Type, Decimal128Type, Float64Type, Int32Type, TimestampMicrosecondType},
};
use chrono_tz::Tz;
use proptest::prelude::*;

use crate::support::{self, T0, lake};
use oracle::{Row, days, quarters};
use story::{Reading, SerialReport, push_reports};

/// What happens between portions of readings.
#[derive(Debug, Clone, Copy)]
enum Step {
    RollUp,
    Compact,
    Settle,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::RollUp),
        1 => Just(Step::Compact),
        1 => Just(Step::Settle),
        1 => Just(Step::Restart),
    ]
}

pub fn zones() -> Zones {
    let zones = [("a", Tz::Europe__Berlin), ("b", Tz::Asia__Kathmandu)];
    Zones(zones.into_iter().map(|(device, zone)| (Arc::from(device), zone)).collect())
}

pub async fn up_to_date(lake: &Lake, zones: &Zones) {
    let mut turns = 0;
    while lake.roll_up(zones).await.expect("roll up").is_some() {
        turns += 1;
        assert!(turns < 200, "it comes to an end");
    }
}

async fn compact(lake: &Lake, settle: bool) {
    let (policy, now) = match settle {
        true => {
            let settle = Duration::ZERO;
            (CompactionPolicy { fan_in: 3, settle, ..CompactionPolicy::default() }, T0 + 900 * DAY)
        }
        false => (CompactionPolicy { fan_in: 2, max_files: 4, ..CompactionPolicy::default() }, 0),
    };
    for _ in 0..20 {
        if lake.compact(policy, now).await.expect("compact").is_none() {
            break;
        }
    }
}

/// The stored rows of a rollup.
pub async fn stored(lake: &Lake, table: Table) -> Vec<Row> {
    let view = lake.view(false).expect("view");
    let context = lake.engine().session();
    let provider = view.table(table).expect("a table");
    context.register_table("r", provider).expect("register");
    let day = if table == Table::RollupDaily { "day" } else { "CAST(NULL AS DATE) AS day" };
    let sql = format!(
        "SELECT device_id, ts, samples, last_ts, meter_serial, voltage_l1_v_count, voltage_l1_v_min,
           voltage_l1_v_max, voltage_l1_v_avg, energy_import_kwh_count, energy_import_kwh_delta,
           energy_import_kwh_last, {day} FROM r ORDER BY device_id, ts"
    );
    let batches = context.sql(&sql).await.expect("plan").collect().await.expect("run");
    let mut rows = Vec::new();
    for batch in &batches {
        let whole = |at: usize, row| batch.column(at).as_primitive::<Int32Type>().value(row);
        let time =
            |at: usize, row| batch.column(at).as_primitive::<TimestampMicrosecondType>().value(row);
        let decimal = |at: usize, row: usize| {
            let column = batch.column(at).as_primitive::<Decimal128Type>();
            column.is_valid(row).then(|| i64::try_from(column.value(row)).expect("small"))
        };
        for row in 0..batch.num_rows() {
            let serials = batch.column(4).as_string::<i32>();
            let days = batch.column(12).as_primitive::<Date32Type>();
            let avg = batch.column(8).as_primitive::<Float64Type>();
            rows.push(Row {
                device: batch.column(0).as_string::<i32>().value(row).to_owned(),
                start: time(1, row),
                samples: whole(2, row),
                last_ts: time(3, row),
                serial: serials.is_valid(row).then(|| serials.value(row).to_owned()),
                volts: (whole(5, row), decimal(6, row), decimal(7, row)),
                avg: avg.is_valid(row).then(|| avg.value(row)),
                energy: (whole(9, row), decimal(10, row), decimal(11, row)),
                day: days.is_valid(row).then(|| days.value(row)),
            });
        }
    }
    rows
}

async fn check(lake: &Lake, readings: &[Reading], reports: &[SerialReport], zones: &Zones) {
    let wanted = quarters(readings, reports);
    same(&stored(lake, Table::Rollup15m).await, &wanted);
    let zone = |device: &str| zones.0.get(device).copied().unwrap_or(Tz::UTC);
    same(&stored(lake, Table::RollupDaily).await, &days(&wanted, zone));
}

fn same(found: &[Row], wanted: &[Row]) {
    // Means may differ in the last digits of a float.
    let but_avg = |row: &Row| Row { avg: None, ..row.clone() };
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(but_avg(found), but_avg(wanted));
        let near = match (found.avg, wanted.avg) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a == b,
        };
        assert!(near, "{found:?} {wanted:?}");
    }
    assert_eq!(found.len(), wanted.len());
}

async fn run(readings: &[Reading], reports: &[SerialReport], order: &[usize], steps: &[Step]) {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = lake(dir.path()).await;
    let zones = zones();
    push_reports(&store, reports);
    store.flush(true).await.expect("flush");
    let mut next: HashMap<u32, i64> = HashMap::from([(3, store.next_offset(3))]);
    let portion = readings.len().div_ceil(steps.len().max(1));
    let mut so_far = Vec::new();
    for (step, portion) in steps.iter().zip(order.chunks(portion.max(1))) {
        let some: Vec<Reading> = portion.iter().map(|at| readings[*at]).collect();
        story::push(&store, &mut next, &some);
        store.flush(true).await.expect("flush");
        so_far.extend(some);
        match step {
            Step::RollUp => {
                up_to_date(&store, &zones).await;
                check(&store, &so_far, reports, &zones).await;
            }
            Step::Compact => compact(&store, false).await,
            Step::Settle => compact(&store, true).await,
            Step::Restart => store = lake(dir.path()).await,
        }
    }
    up_to_date(&store, &zones).await;
    check(&store, &so_far, reports, &zones).await;
    assert!(store.rollups_are_built().await.expect("known"));
    compact(&store, true).await;
    check(&store, &so_far, reports, &zones).await;
}

/// A register that shows zero for hours is in doubt for as long, and so is every quarter behind it. A late
/// reading from before it changes what they all continue from, however many they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_reading_before_hours_of_zeros_reaches_every_quarter_behind_it() {
    let at = |n: i64, energy| Reading::new("a", T0 + n * QUARTER, 230, energy);
    let mut readings = vec![at(0, 6_430_336)];
    readings.extend((1..40).map(|n| at(n, 0)));
    readings.extend([at(40, 20), at(41, 22), at(42, 23)]);
    let order: Vec<usize> = (1..readings.len()).chain([0]).collect();
    for steps in [&[Step::RollUp, Step::RollUp][..], &[Step::RollUp, Step::Restart, Step::RollUp]] {
        run(&readings, &[], &order, steps).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]
    #[test]
    fn every_reading_is_in_its_bucket_however_it_came(
        (readings, reports, order) in story::story(),
        steps in prop::collection::vec(step(), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2).enable_all().build().expect("runtime");
        runtime.block_on(run(&readings, &reports, &order, &steps));
    }
}

/// ACUVIM_CASES sets more of them for nightly runs.
fn cases() -> u32 {
    std::env::var("ACUVIM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_those_of_the_sites_calendar_and_change_with_it() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let readings: Vec<Reading> =
        (0..200).map(|n| Reading::new("a", T0 + n * HOUR, 230, 100 + n)).collect();
    story::push(&lake, &mut HashMap::new(), &readings);
    lake.flush(true).await.expect("flush");
    let mut zones = Zones::default();
    up_to_date(&lake, &zones).await;
    check(&lake, &readings, &[], &zones).await;
    assert!(lake.devices_to_rezone(&zones).await.expect("zones").is_empty());
    zones.0.insert("a".into(), Tz::America__New_York);
    let other = lake.devices_to_rezone(&zones).await.expect("zones");
    assert_eq!(other, [Arc::from("a")]);
    lake.rezone(&other, &zones).await.expect("rezone");
    assert!(lake.devices_to_rezone(&zones).await.expect("zones").is_empty());
    check(&lake, &readings, &[], &zones).await;
}

/// A logger is away for three weeks while its meter keeps counting.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_meter_counts_in_a_long_outage_is_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let zones = zones();
    let mut next = HashMap::new();
    let mut so_far = Vec::new();
    // The last reading lies within the outage and arrives late.
    for (days, kwh) in [(0, 100), (21, 900), (10, 500)] {
        let reading = Reading::new("a", T0 + days * DAY, 230, kwh);
        story::push(&lake, &mut next, &[reading]);
        lake.newest().note("a", reading.ts);
        lake.flush(true).await.expect("flush");
        so_far.push(reading);
        up_to_date(&lake, &zones).await;
        check(&lake, &so_far, &[], &zones).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_none_of_the_old_files() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    let zones = Zones::default();
    let mut next = HashMap::new();
    for day in 0..5 {
        let more = ["a", "b"].into_iter().take(if day == 0 { 2 } else { 1 });
        let readings: Vec<Reading> =
            more.map(|device| Reading::new(device, T0 + day * DAY, 230, 100 + day)).collect();
        story::push(&first, &mut next, &readings);
        first.flush(true).await.expect("flush");
        if day < 4 {
            up_to_date(&first, &zones).await;
        }
    }
    drop(first);
    // A query that opened these files would fail.
    for entry in std::fs::read_dir(dir.path().join("telemetry/date=2026-05-18")).expect("a day") {
        std::fs::write(entry.expect("a file").path(), b"damaged").expect("write");
    }
    let second = lake(dir.path()).await;
    assert_eq!(second.newest().get("a"), Some(T0 + 4 * DAY), "beyond the rollups");
    assert_eq!(second.newest().get("b"), Some(T0));
    let latest = second.latest().rows(["a", "b"]).expect("rows");
    assert_eq!(latest.num_rows(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_repeated_step_makes_is_the_same() {
    let dir = tempfile::tempdir().expect("dir");
    let one = lake(dir.path()).await;
    let readings: Vec<Reading> =
        (0..50).map(|n| Reading::new("a", T0 + n * QUARTER / 3, 230 + n, 100 + n)).collect();
    story::push(&one, &mut HashMap::new(), &readings);
    one.flush(true).await.expect("flush");
    let two = support::lake(dir.path()).await;
    let zones = Zones::default();
    // Two processes roll up at once. A refused step is repeated, and no reading is counted twice.
    for _ in 0..10 {
        let (first, second) = tokio::join!(one.roll_up(&zones), two.roll_up(&zones));
        for error in [first.err(), second.err()].into_iter().flatten() {
            assert_eq!(error.kind(), acuvim_lakehouse::ErrorKind::Overtaken, "{error}");
        }
    }
    one.catch_up().await.expect("catch up");
    up_to_date(&one, &zones).await;
    check(&one, &readings, &[], &zones).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_epoch_builds_them_anew_and_what_telemetry_has_let_go_of_stays() {
    let dir = tempfile::tempdir().expect("dir");
    let zones = Zones::default();
    let readings: Vec<Reading> =
        (0..4).map(|n| Reading::new("a", T0 + n * DAY, 230, 100 + n)).collect();
    let first = lake(dir.path()).await;
    story::push(&first, &mut HashMap::new(), &readings);
    first.flush(true).await.expect("flush");
    up_to_date(&first, &zones).await;
    let before = acuvim_wire::time::day_of(T0) + 2;
    first.retain(Table::Telemetry, before, T0 + 10 * DAY).await.expect("retain");
    let options = acuvim_lakehouse::LakeOptions { epoch: 1, ..support::options(dir.path()) };
    let engine = acuvim_lakehouse::Engine::new(&acuvim_lakehouse::EngineLimits::default());
    let second = Lake::open(options, engine.expect("engine")).await.expect("open");
    second.follow(&(0..4).collect()).await.expect("follow");
    assert!(!second.rollups_are_built().await.expect("known"));
    up_to_date(&second, &zones).await;
    check(&second, &readings, &[], &zones).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replacements_of_several_meters_are_found() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let devices = ["q", "c", "z", "m", "a", "x"];
    let reports: Vec<SerialReport> =
        devices.iter().flat_map(|d| [(*d, T0, "m1"), (*d, T0 + HOUR, "m2")]).collect();
    push_reports(&lake, &reports);
    lake.refresh_meter_changes(T0 + DAY).await;
    for device in devices {
        assert_eq!(lake.engine().meter_changes(device), [T0 + HOUR], "{device}");
    }
}
