//! Power cuts at any moment: the rows of all offsets that the tables cover can still be read.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod disk;
#[path = "../lakehouse/support.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod support;

use std::sync::Arc;

use acuvim_lakehouse::{CompactionPolicy, put_under};
use acuvim_tables::Table;
use acuvim_wire::time::DAY;
use disk::ForgetfulDisk;
use support::{T0, count_in, dead, lake, push, reading};

/// One test only, since the disk is replaced for the whole process.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_covered_survives_a_power_cut() {
    let disk = Arc::new(ForgetfulDisk::default());
    assert!(put_under(Arc::clone(&disk) as _), "no lake was open yet");
    let dir = tempfile::tempdir().expect("dir");
    // The folder was created by somebody else, and is persisted.
    disk.trust(dir.path());
    let place = dir.path().join("lake");
    let open = lake(&place).await;
    let policy = CompactionPolicy { fan_in: 3, max_files: 8, ..CompactionPolicy::default() };
    let mut next = 0;
    // Enough versions for a checkpoint, and new days throughout.
    for round in 0..60 {
        let day = T0 + round % 7 * DAY + round;
        push(&open, 0, next, &[reading("a", day), reading("b", day)], &[dead("a")]);
        open.flush(true).await.expect("flush");
        next += 3;
        if round % 10 == 4 {
            open.compact(policy, 0).await.expect("compact");
        }
        if round % 6 == 5 {
            let left = tempfile::tempdir().expect("dir");
            disk.cut(&place, left.path());
            check(left.path(), &open, next).await;
        }
    }
    let versions = open.snapshot(Table::Telemetry).expect("snapshot").version();
    assert!(versions > 50, "there was a checkpoint, and it was read");
}

/// Asserts that what is left of a lake contains every row that its tables cover.
async fn check(left: &std::path::Path, lake: &acuvim_lakehouse::Lake, next: i64) {
    let again = support::lake(left).await;
    assert_eq!(again.next_offset(0), next);
    assert_eq!(again.next_offset_of(Table::DeadLetters, 0), next);
    let (before, after) = (lake.view(false).expect("view"), again.view(false).expect("view"));
    assert_eq!(after.version, before.version);
    for table in [Table::Telemetry, Table::DeadLetters] {
        assert_eq!(count_in(&after, table).await, count_in(&before, table).await);
    }
    assert_eq!(count_in(&after, Table::Telemetry).await as i64, next / 3 * 2);
}
