use acuvim_wire::{telemetry::MAX_AHEAD, time::HOUR};

use super::*;
use crate::{
    Lake, LakeOptions, WriteGuards, Zones,
    memory::Rows,
    testing::{Reading, T0, heartbeats, lake, lake_with, options, push_rows, reading, store},
};

/// Builds the rollups as far as they go.
async fn roll_up(lake: &Lake) {
    while lake.roll_up(&Zones::default()).await.expect("roll up").is_some() {}
}

#[tokio::test]
async fn a_start_knows_the_latest_reading_of_each_device_however_late_others_came() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    store(&first, &[reading("a", T0 + 5), reading("b", T0 - DAY)]).await;
    store(&first, &[reading("a", T0 + 1), reading("a", T0 - DAY)]).await;
    for built in [false, true] {
        let again = lake(dir.path()).await;
        assert_eq!(again.rollups_are_built().await.expect("known"), built);
        for (device, ts) in [("a", T0 + 5), ("b", T0 - DAY)] {
            assert_eq!(again.newest().get(device), Some(ts), "{device}, {built}");
            assert_eq!(again.latest().ts(device), Some(ts), "{device}, {built}");
        }
        assert_eq!(again.latest().devices().len(), 2);
        roll_up(&again).await;
    }
}

#[tokio::test]
async fn readings_beyond_the_rollups_count_at_a_start() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    store(&first, &[reading("a", T0), reading("b", T0)]).await;
    roll_up(&first).await;
    store(&first, &[reading("a", T0 + HOUR), reading("c", T0 + 1)]).await;
    let again = lake(dir.path()).await;
    let newest = ["a", "b", "c"].map(|device| again.newest().get(device));
    assert_eq!(newest, [Some(T0 + HOUR), Some(T0), Some(T0 + 1)]);
    assert_eq!(again.latest().ts("a"), Some(T0 + HOUR));
    assert!(again.latest().has("c"));
}

#[tokio::test]
async fn the_latest_of_a_device_with_a_wrong_clock_is_its_last_plausible_reading() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    let ahead = |ts: Micros| Reading { received_at: ts - MAX_AHEAD - 1, ..reading("a", ts) };
    store(&first, &[reading("a", T0), ahead(T0 + HOUR), reading("b", T0)]).await;
    store(&first, &[Reading { device: "c", ..ahead(T0 + HOUR) }]).await;
    for built in [false, true] {
        let again = lake(dir.path()).await;
        assert_eq!(again.newest().get("a"), Some(T0 + HOUR), "deduplication knows all of them");
        assert_eq!(
            (again.latest().ts("a"), again.latest().ts("b")),
            (Some(T0), Some(T0)),
            "{built}"
        );
        assert!(!again.latest().has("c"), "it has never had a plausible one");
        roll_up(&again).await;
    }
}

#[tokio::test]
async fn a_fleet_whose_latest_readings_share_a_minute_is_read_at_once_and_each_is_right() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    let names: Vec<String> = (0..MAX_DEVICES + 10).map(|n| format!("d{n:03}")).collect();
    let minute = T0 - T0.rem_euclid(MINUTE);
    let ts = |n: usize| minute + Micros::try_from(n).expect("small") * SECOND / 2;
    let mut readings = Vec::new();
    for (n, name) in names.iter().enumerate() {
        // An older reading within the same minute must not become the latest.
        readings.extend([reading(name, ts(n) - 1), reading(name, ts(n))]);
    }
    readings.push(reading("away", T0 - 5 * DAY));
    store(&first, &readings).await;
    let again = lake(dir.path()).await;
    for (n, name) in names.iter().enumerate() {
        assert_eq!(again.latest().ts(name), Some(ts(n)), "{name}");
    }
    assert_eq!(again.latest().ts("away"), Some(T0 - 5 * DAY));
}

#[tokio::test]
async fn a_minute_of_the_fleet_does_not_hide_the_latest_of_a_device_with_a_wrong_clock() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    let names: Vec<String> = (0..MAX_DEVICES).map(|n| format!("d{n:03}")).collect();
    let mut readings: Vec<_> = names.iter().map(|name| reading(name, T0)).collect();
    // One of the same minute, its last plausible one, and one from its wrong clock.
    readings.extend([T0, T0 + HOUR].map(|ts| reading("x", ts)));
    readings.push(Reading { received_at: T0 + HOUR + 1, ..reading("x", T0 + 9 * HOUR) });
    store(&first, &readings).await;
    let again = lake(dir.path()).await;
    assert_eq!(again.latest().ts("x"), Some(T0 + HOUR));
    assert_eq!(again.latest().ts("d000"), Some(T0));
}

#[tokio::test]
async fn only_devices_of_followed_partitions_are_known() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    // So many that those of the followed partitions are read by their minute.
    let names: Vec<String> = (0..300).map(|n| format!("d{n}")).collect();
    let readings: Vec<_> = names.iter().map(|name| reading(name, T0)).collect();
    store(&first, &readings).await;
    let again = Lake::open(options(dir.path()), crate::testing::engine()).await.expect("open");
    let followed = BTreeSet::from([1, 3]);
    again.follow(&followed).await.expect("follow");
    for name in &names {
        let ours = followed.contains(&again.newest().partition(name));
        assert_eq!(again.newest().get(name).is_some(), ours, "{name}");
        assert_eq!(again.latest().has(name), ours, "{name}");
    }
    assert_eq!(again.tail().next_offsets().iter().filter(|next| next.is_some()).count(), 2);
}

#[tokio::test]
async fn heartbeats_are_known_for_a_month_and_asked_for_beyond_it() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    let month = i64::from(HEARTBEAT_DAYS) * DAY;
    let midnight = T0 - T0.rem_euclid(DAY);
    let rows = heartbeats(
        0,
        &[("a", T0, "1"), ("b", midnight - month, "1"), ("c", midnight - month - 1, "1")],
    );
    push_rows(&first, 0, Rows { heartbeats: rows, ..Rows::none() });
    first.flush(true).await.expect("flush");
    let again = lake(dir.path()).await;
    let newest = again.newest_heartbeats();
    assert_eq!(newest.get("a"), Some(T0));
    assert_eq!((newest.get("b"), newest.get("c")), (Some(midnight - month), None));
    assert!(!newest.is_newer("c", midnight - month - 1), "it may be stored");
    assert!(newest.is_newer("c", midnight - month));
    assert!(!newest.is_newer("b", midnight - month));
}

#[tokio::test]
async fn without_offsets_everything_is_read_from_the_beginning() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    store(&first, &[reading("a", T0)]).await;
    roll_up(&first).await;
    let guards = WriteGuards::default().without_offsets();
    let again = lake_with(LakeOptions { guards, ..options(dir.path()) }).await;
    assert_eq!(again.latest().ts("a"), Some(T0));
    assert_eq!(again.next_offset(again.newest().partition("a")), 0);
}
