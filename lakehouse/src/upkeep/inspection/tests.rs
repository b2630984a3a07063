use acuvim_wire::time::DAY;

use super::*;
use crate::{
    Lake,
    testing::{T0, lake, reading, store},
};

const LONG: Duration = Duration::from_secs(60);

/// A lake with a file for each of three days, and the path of a day's file.
async fn with_days(dir: &std::path::Path) -> Lake {
    let lake = lake(dir).await;
    store(&lake, &[0, 1, 2].map(|day| reading("a", T0 + day * DAY))).await;
    lake
}

fn file_of(dir: &std::path::Path, day: &str) -> std::path::PathBuf {
    let day = dir.join(format!("telemetry/date={day}"));
    std::fs::read_dir(day).expect("a day").next().expect("a file").expect("a file").path()
}

#[tokio::test]
async fn damaged_files_are_named_the_newest_day_first() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_days(dir.path()).await;
    assert!(lake.damaged_files(LONG).await.expect("read").is_empty());
    std::fs::write(file_of(dir.path(), "2026-05-16"), b"no parquet").expect("write");
    std::fs::remove_file(file_of(dir.path(), "2026-05-18")).expect("remove");
    let damaged = lake.damaged_files(LONG).await.expect("read");
    let days: Vec<_> = damaged.iter().filter_map(|path| path.split('/').nth(1)).collect();
    assert_eq!(days, ["date=2026-05-18", "date=2026-05-16"]);
    assert!(damaged.iter().all(|path| path.starts_with("telemetry/")), "{damaged:?}");
}

#[tokio::test]
async fn a_file_that_can_be_read_but_has_other_rows_is_damaged() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_days(dir.path()).await;
    store(&lake, &[reading("a", T0 + 1), reading("b", T0)]).await;
    let day = dir.path().join("telemetry/date=2026-05-16");
    let paths: Vec<_> =
        std::fs::read_dir(day).expect("a day").map(|entry| entry.expect("a file").path()).collect();
    let size = |path: &std::path::PathBuf| path.metadata().expect("a file").len();
    let (small, large) = if size(&paths[0]) < size(&paths[1]) { (0, 1) } else { (1, 0) };
    std::fs::copy(&paths[large], &paths[small]).expect("copy");
    let damaged = lake.damaged_files(LONG).await.expect("read");
    let name = paths[small].file_name().expect("a name").to_string_lossy().into_owned();
    assert!(matches!(damaged.as_slice(), [one] if one.ends_with(&name)), "{damaged:?}");
}

#[tokio::test]
async fn without_time_nothing_is_read() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = with_days(dir.path()).await;
    std::fs::remove_file(file_of(dir.path(), "2026-05-18")).expect("remove");
    assert!(lake.damaged_files(Duration::ZERO).await.expect("read").is_empty());
}
