use acuvim_wire::time::HOUR;

use super::*;
use crate::{
    memory::Rows,
    rollup::{Zones, counting::SerialAt},
    testing::{T0, heartbeats, lake, push_rows, reading, store},
};

fn changes(reports: &[(Micros, &str)]) -> Option<Vec<Micros>> {
    let at = |(ts, serial): &(Micros, &str)| SerialAt { ts: *ts, serial: (*serial).into() };
    let serials = Serials::from([("a".into(), reports.iter().map(at).collect())]);
    changes_of(&serials).remove("a")
}

#[test]
fn a_change_is_at_the_first_report_of_the_new_meter() {
    assert_eq!(changes(&[(1, "m1"), (2, "m1"), (5, "m2"), (6, "m2")]), Some(vec![5]));
    assert_eq!(changes(&[(1, "m1"), (2, "m2"), (3, "m1")]), Some(vec![2, 3]), "and back");
    assert_eq!(changes(&[(1, "m1"), (2, "m1")]), None);
    assert_eq!(changes(&[(1, "m1")]), None);
    assert_eq!(changes(&[]), None);
}

#[tokio::test]
async fn changes_are_found_in_tables_and_tail_and_kept_for_a_while() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let report = |all: &[(&str, Micros, &str)]| {
        let from = crate::testing::next_of(&lake, 0);
        push_rows(&lake, 0, Rows { heartbeats: heartbeats(from, all), ..Rows::none() });
    };
    report(&[("a", T0, "m1"), ("b", T0, "m1"), ("c", T0, "m1")]);
    lake.flush(true).await.expect("flush");
    report(&[("a", T0 + HOUR, "m2"), ("b", T0 + HOUR, " m1 "), ("c", T0 + HOUR, "00000")]);
    lake.refresh_meter_changes(T0 + 2 * HOUR).await;
    let engine = lake.engine();
    assert_eq!(engine.meter_changes("a"), [T0 + HOUR]);
    assert_eq!(engine.meter_changes("b"), [0_i64; 0], "the same serial number with padding");
    assert_eq!(engine.meter_changes("c"), [0_i64; 0], "registers that could not be read");
    report(&[("b", T0 + 2 * HOUR, "m2")]);
    lake.refresh_meter_changes(T0 + 3 * HOUR).await;
    assert_eq!(engine.meter_changes("b"), [0_i64; 0], "it was looked up a moment ago");
}

#[tokio::test]
async fn changes_of_long_ago_are_known_from_the_days_of_the_rollups() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for (day, serial) in [(0, "m1"), (1, "m2")] {
        let at = T0 + day * DAY;
        let report = heartbeats(crate::testing::next_of(&lake, 0), &[("a", at, serial)]);
        push_rows(&lake, 0, Rows { heartbeats: report, ..Rows::none() });
        store(&lake, &[reading("a", at + HOUR)]).await;
    }
    while lake.roll_up(&Zones::default()).await.expect("roll up").is_some() {}
    assert!(lake.rollups_are_built().await.expect("known"));
    // The heartbeats are older than what is searched for devices with several serial numbers.
    lake.refresh_meter_changes(T0 + 2 * RECENT).await;
    assert_eq!(lake.engine().meter_changes("a"), [T0 + DAY]);
}
