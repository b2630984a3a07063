//! Days written in order, and the same days written shuffled and late, end up in the same layout.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use acuvim_lakehouse::{CompactionPolicy, Lake};
use acuvim_tables::Table;
use acuvim_wire::time::{DAY, HOUR, Micros, SECOND};

use super::{stored, story, story::Reading, up_to_date, zones};
use crate::support::{T0, lake, pairs, query_view};

const DEVICES: [&str; 3] = ["a", "b", "c"];

/// Four days of three devices, a reading every two minutes.
fn readings() -> Vec<Reading> {
    let midnight = T0 - 12 * HOUR;
    let at = |n: i64| midnight + n * 120 * SECOND;
    let one = |n: i64| DEVICES.map(|d| Reading::new(d, at(n), 220 + n % 17, 1000 + n));
    (0..4 * 720).flat_map(one).collect()
}

/// The last day first, shuffled, then the days before it, shuffled too.
fn mixed_up(readings: &[Reading]) -> Vec<Reading> {
    let day = |r: &Reading| (r.ts - readings[0].ts) / DAY;
    let mut keyed: Vec<((bool, u64), Reading)> = readings
        .iter()
        .enumerate()
        .map(|(n, reading)| {
            let mixed = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
            ((day(reading) < 3, mixed), *reading)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, reading)| reading).collect()
}

/// Writes readings in portions, and compacts long after.
async fn written(dir: &Path, readings: &[Reading], policy: CompactionPolicy) -> Lake {
    let lake = &lake(dir).await;
    let mut next = HashMap::new();
    for portion in readings.chunks(1500) {
        story::push(lake, &mut next, portion);
        lake.flush(true).await.expect("flush");
        lake.compact(policy, T0).await.expect("compact");
        up_to_date(lake, &zones()).await;
    }
    // A new process has no files in cooldown.
    let lake = crate::support::lake(dir).await;
    while lake.compact(policy, T0 + 36_500 * DAY).await.expect("compact").is_some() {}
    lake
}

/// For each day the device ranges of its files, and the largest size.
fn layout(lake: &Lake) -> BTreeMap<i32, (Vec<(String, String)>, u64)> {
    let snapshot = lake.snapshot(Table::Telemetry).expect("snapshot");
    let mut days: BTreeMap<i32, (Vec<(String, String)>, u64)> = BTreeMap::new();
    for file in snapshot.data_files() {
        let (first, last) = file.devices.expect("known");
        let (ranges, largest) = days.entry(file.day).or_default();
        ranges.push((first.to_owned(), last.to_owned()));
        *largest = file.bytes.max(*largest);
    }
    for (ranges, _) in days.values_mut() {
        ranges.sort();
        let apart = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
        assert!(apart, "{ranges:?}");
    }
    days
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_shuffled_days_end_as_days_that_came_in_order() {
    let policy = CompactionPolicy {
        fan_in: 4,
        file_bytes: 60_000,
        settle: std::time::Duration::ZERO,
        ..CompactionPolicy::default()
    };
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let readings = readings();
    let one = written(dir.path(), &readings, policy).await;
    let two = written(other.path(), &mixed_up(&readings), policy).await;
    let rows = async |lake: &Lake| -> Vec<(String, Micros)> {
        let view = lake.view(false).expect("view");
        let sql = "SELECT device_id, ts, voltage_l1_v, energy_import_kwh FROM telemetry
                   ORDER BY device_id, ts";
        pairs(&query_view(&view, sql).await)
    };
    let stored_rows = rows(&one).await;
    assert_eq!(stored_rows.len(), readings.len());
    assert_eq!(stored_rows, rows(&two).await);
    for table in Table::ROLLUPS {
        assert_eq!(stored(&one, table).await, stored(&two, table).await, "{table:?}");
    }
    let (first, second) = (layout(&one), layout(&two));
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (day, (ranges, largest)) in &second {
        assert!(*largest <= policy.file_bytes, "day {day}: {largest} bytes");
        assert!(ranges.len() <= first[day].0.len() + 1, "day {day}: {ranges:?}");
    }
}
