use acuvim_tables::Table;

use super::*;
use crate::{
    CompactionPolicy, Lake,
    testing::{T0, lake, pairs, reading, rows_of, store},
};

fn data_files(dir: &std::path::Path) -> usize {
    let day = dir.join("telemetry/date=2026-05-16");
    std::fs::read_dir(day).map_or(0, Iterator::count)
}

async fn with_merged(dir: &std::path::Path) -> Lake {
    let lake = lake(dir).await;
    for n in 0..3 {
        store(&lake, &[reading("a", T0 + n)]).await;
    }
    let policy = CompactionPolicy { fan_in: 3, ..CompactionPolicy::default() };
    lake.compact(policy, 0).await.expect("compact").expect("three files");
    lake
}

#[tokio::test]
async fn files_of_recent_versions_stay_for_whoever_reads_them() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_merged(dir.path()).await;
    let before = lake.view_at(3).await.expect("the version before the merge");
    assert_eq!(data_files(dir.path()), 4);
    let cleaned = lake.clean(Duration::from_secs(3600)).await.expect("clean");
    assert_eq!((cleaned.files, cleaned.bytes), (0, 0));
    assert_eq!(data_files(dir.path()), 4);
    let rows = rows_of(&before, "SELECT device_id, ts FROM telemetry").await;
    assert_eq!(pairs(&rows).len(), 3);
}

#[tokio::test]
async fn what_no_version_needs_is_deleted_once_and_its_size_reported() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_merged(dir.path()).await;
    let rows = lake.snapshot(Table::Telemetry).expect("snapshot").bytes();
    let cleaned = lake.clean(Duration::ZERO).await.expect("clean");
    assert_eq!((cleaned.files, data_files(dir.path())), (3, 1));
    assert!(cleaned.bytes > rows, "three files of one row are larger than one of three");
    let version = || lake.snapshot(Table::Telemetry).expect("snapshot").version();
    let before = version();
    let again = lake.clean(Duration::ZERO).await.expect("clean");
    assert_eq!((again.files, again.bytes), (0, 0));
    assert_eq!(version(), before, "nothing to do makes no version");
    store(&lake, &[reading("a", T0 + 9)]).await;
    assert_eq!(lake.snapshot(Table::Telemetry).expect("snapshot").file_count(), 2);
}

#[tokio::test]
async fn left_overs_of_failed_commits_go_when_they_are_old_enough() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_merged(dir.path()).await;
    let left = dir.path().join("telemetry/date=2026-05-16/part-left-over.parquet");
    std::fs::write(&left, b"half").expect("write");
    lake.clean(Duration::from_secs(3600)).await.expect("clean");
    assert!(left.exists(), "it may belong to a flush that is going on");
    lake.clean(Duration::ZERO).await.expect("clean");
    assert!(!left.exists());
}

#[tokio::test]
async fn what_is_set_aside_after_a_power_cut_is_never_cleaned() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_merged(dir.path()).await;
    let aside = dir.path().join("telemetry/_damaged/1");
    std::fs::create_dir_all(&aside).expect("folder");
    std::fs::write(aside.join("00000000000000000009.json"), b"torn").expect("write");
    lake.clean(Duration::ZERO).await.expect("clean");
    assert!(aside.join("00000000000000000009.json").exists());
}

#[tokio::test]
async fn a_time_that_is_too_long_is_a_fault_of_the_settings() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let error = lake.clean(Duration::MAX).await.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert!(error.to_string().starts_with("the time to keep files"), "{error}");
}
