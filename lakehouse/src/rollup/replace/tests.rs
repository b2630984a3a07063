use std::collections::BTreeSet;

use super::*;
use crate::{
    delta::snapshot::{Bounds, MinMax},
    rollup::QUARTER,
    testing::{T0, reading, telemetry},
};

fn file(day: i32, devices: Option<(&str, &str)>) -> File {
    let by = devices.map(|(min, max)| MinMax { min: min.into(), max: max.into() });
    let bounds = Arc::new(Bounds { by, ..Bounds::default() });
    File { date: day, bounds, ..File::named("f", 0) }
}

fn keys(device: &str, starts: &[Micros]) -> BucketKeys {
    BucketKeys::from([(device.into(), starts.iter().copied().collect::<BTreeSet<_>>())])
}

#[test]
fn only_files_that_may_have_a_removed_bucket_are_rewritten() {
    let today = day_of(T0);
    let keys = keys("m", &[T0, T0 + DAY]);
    let removed = Removed::Keys(&keys);
    assert!(removed.may_be_in(&file(today, Some(("m", "m")))));
    assert!(removed.may_be_in(&file(today + 1, Some(("a", "m")))));
    assert!(removed.may_be_in(&file(today, None)), "without statistics it may have any device");
    assert!(!removed.may_be_in(&file(today + 2, Some(("a", "z")))));
    assert!(!removed.may_be_in(&file(today, Some(("n", "z")))));
    assert!(!removed.may_be_in(&file(today, Some(("a", "l")))));
    assert!(!Removed::Nothing.may_be_in(&file(today, None)));
}

#[test]
fn removing_since_a_time_begins_with_its_day() {
    let since = BTreeMap::from([(Arc::from("m"), T0)]);
    let removed = Removed::Since(&since);
    let today = day_of(T0);
    assert!(removed.may_be_in(&file(today, Some(("m", "m")))));
    assert!(removed.may_be_in(&file(today + 100, Some(("m", "m")))));
    assert!(!removed.may_be_in(&file(today - 1, Some(("m", "m")))));
    assert!(!removed.may_be_in(&file(today, Some(("a", "l")))));
    assert!(removed.contains("m", T0) && removed.contains("m", T0 + 1));
    assert!(!removed.contains("m", T0 - 1) && !removed.contains("a", T0));
}

#[test]
fn rows_of_other_buckets_and_devices_stay() {
    let rows = telemetry(
        0,
        0,
        &[reading("a", T0), reading("a", T0 + QUARTER), reading("b", T0), reading("b", T0 - 1)],
    );
    let keys = keys("a", &[T0]);
    let left = |removed: Removed<'_>| {
        let rows = removed.filter(&rows).expect("rows");
        let devices = rows.column(0).as_string::<i32>().iter().flatten().collect::<String>();
        (rows.num_rows(), devices)
    };
    assert_eq!(left(Removed::Nothing), (4, "aabb".to_owned()));
    assert_eq!(left(Removed::Keys(&keys)), (3, "abb".to_owned()));
    let since = BTreeMap::from([(Arc::from("b"), T0), (Arc::from("a"), T0 + 1)]);
    assert_eq!(left(Removed::Since(&since)), (2, "ab".to_owned()));
}

#[test]
fn progress_of_epochs_is_kept_apart() {
    assert_ne!(next_day_id(0), next_day_id(1));
    assert_ne!(seen_id(0), seen_id(1));
    let none = Progress::none(&Covered::from([(0, 5)]));
    assert!(none.covered.is_empty() && none.next_day.is_none() && none.seen.is_none());
    assert_eq!(none.expected, Covered::from([(0, 5)]));
}
