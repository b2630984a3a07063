use acuvim_tables::Table;
use acuvim_wire::time::DAY;

use super::*;
use crate::{
    Lake,
    testing::{T0, ask, lake, pairs, reading, rows_of, store},
};

const POLICY: CompactionPolicy = CompactionPolicy {
    fan_in: 2,
    max_files: 8,
    file_bytes: 256 << 20,
    settle: std::time::Duration::ZERO,
};

/// A lake with two files on each of two days.
async fn with_files(dir: &std::path::Path) -> Lake {
    let lake = lake(dir).await;
    for n in 0..2 {
        store(&lake, &[reading("a", T0 + n), reading("b", T0 + DAY + n)]).await;
    }
    lake
}

fn day_files(dir: &std::path::Path, day: &str) -> Vec<std::path::PathBuf> {
    let day = dir.join(format!("telemetry/date={day}"));
    std::fs::read_dir(day).expect("a day").map(|entry| entry.expect("a file").path()).collect()
}

#[tokio::test]
async fn merging_changes_neither_rows_nor_offsets() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_files(dir.path()).await;
    let covered = lake.snapshot(Table::Telemetry).expect("snapshot").covered().clone();
    let all = "SELECT device_id, ts FROM telemetry ORDER BY ts";
    let before = ask(&lake, all).await;
    let mut merges = 0;
    while let Some(done) = lake.compact(POLICY, 0).await.expect("compact") {
        assert_eq!(done, Compacted { removed: 2, added: 1 });
        merges += 1;
    }
    assert_eq!(merges, 2, "days are not mixed");
    let after = lake.snapshot(Table::Telemetry).expect("snapshot");
    assert_eq!((after.file_count(), after.covered()), (2, &covered));
    assert_eq!(ask(&lake, all).await, before);
    let view = lake.view(false).expect("view");
    assert_eq!(pairs(&rows_of(&view, all).await).len(), 4);
}

#[tokio::test]
async fn a_merge_that_another_process_did_first_is_no_failure() {
    let dir = tempfile::tempdir().expect("dir");
    let one = with_files(dir.path()).await;
    let two = lake(dir.path()).await;
    let done = Compacted { removed: 2, added: 1 };
    assert_eq!(one.compact(POLICY, 0).await.expect("compact"), Some(done));
    // It still knows the files that the other one has merged, and chooses the same.
    assert_eq!(two.compact(POLICY, 0).await.expect("compact"), None);
    // It has learned what the other one did, and goes on with the second day.
    assert_eq!(two.compact(POLICY, 0).await.expect("compact"), Some(done));
    assert_eq!(two.compact(POLICY, 0).await.expect("compact"), None);
    let rows = ask(&two, "SELECT device_id, ts FROM telemetry").await;
    assert_eq!(rows.len(), 4);
}

#[tokio::test]
async fn files_whose_merge_was_overtaken_are_merged_at_once() {
    let dir = tempfile::tempdir().expect("dir");
    let one = with_files(dir.path()).await;
    let two = lake(dir.path()).await;
    // Files are removed by one commit at a time, so this refuses the merge of the day that stays.
    let second_day = acuvim_wire::time::day_of(T0) + 1;
    one.retain(Table::Telemetry, second_day, T0).await.expect("retain");
    assert_eq!(two.compact(POLICY, 0).await.expect("compact"), None);
    let done = Compacted { removed: 2, added: 1 };
    assert_eq!(two.compact(POLICY, 0).await.expect("compact"), Some(done));
}

#[tokio::test]
async fn a_damaged_file_delays_neither_other_days_nor_itself_for_ever() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_files(dir.path()).await;
    let damaged = day_files(dir.path(), "2026-05-16");
    std::fs::write(&damaged[0], b"damaged").expect("write");
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(lake.compact(POLICY, 0).await.map_err(|error| error.kind()));
    }
    let merged = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Some(_)))).count();
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!((merged, failed), (1, 1), "{outcomes:?}");
    assert_eq!(outcomes.last(), Some(&Ok(None)), "the files of the failed merge are skipped");
    assert_eq!(lake.snapshot(Table::Telemetry).expect("snapshot").file_count(), 3);
}

#[tokio::test]
async fn one_merge_is_done_at_a_time_and_only_if_one_is_due() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_files(dir.path()).await;
    let wide = CompactionPolicy { fan_in: 3, ..POLICY };
    assert!(lake.compact(wide, 0).await.expect("compact").is_none(), "two are too few");
    assert!(lake.compact(POLICY, 0).await.expect("compact").is_some());
    assert_eq!(lake.snapshot(Table::Telemetry).expect("snapshot").file_count(), 3);
}
