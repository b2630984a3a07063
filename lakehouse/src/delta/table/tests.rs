use std::collections::BTreeMap;

use super::*;
use crate::{
    delta::{commit::Step, writer::write_sorted},
    testing::{T0, reading, table, telemetry},
};

/// Commits a row per offset from `from` up to `to` of partition 0.
async fn write(table: &LakeTable, from: i64, to: i64) {
    for next in from + 1..=to {
        let rows = telemetry(0, next - 1, &[reading("a", T0 + next)]);
        let adds = write_sorted(table, &[rows]).await.expect("write");
        let expected = (next > 1).then_some(next - 1);
        let steps = BTreeMap::from([(0, Step { expected, next })]);
        table.append(adds, &steps).await.expect("commit");
    }
}

#[tokio::test]
async fn an_older_version_has_its_own_files_and_offsets() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    let empty = table.current().version();
    write(&table, 0, 3).await;
    for rows in 0..3_i64 {
        let old = table.at(empty + rows).await.expect("a version");
        assert_eq!(old.version(), empty + rows);
        assert_eq!(old.file_count(), usize::try_from(rows).expect("small"));
        let covered = (rows > 0).then_some(rows);
        assert_eq!(old.covered().get(&0).copied(), covered);
    }
    assert_eq!(table.current().file_count(), 3, "the newest one is what it was");
}

#[tokio::test]
async fn versions_that_never_were_are_named_with_the_newest_one() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    write(&table, 0, 1).await;
    let newest = table.current().version();
    for version in [-1, newest + 1, i64::MAX, i64::MIN] {
        let error = table.at(version).await.expect_err("no such version");
        assert_eq!(error.kind(), ErrorKind::NoVersion);
        assert!(error.to_string().ends_with(&format!("the newest is {newest}")), "{error}");
    }
}

#[tokio::test]
async fn a_version_whose_commits_are_gone_is_no_version_any_more() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    write(&table, 0, 2).await;
    let log = dir.path().join("telemetry/_delta_log");
    std::fs::remove_file(log.join(format!("{:020}.json", 0))).expect("remove");
    let error = table.at(1).await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NoVersion, "{error}");
    assert_eq!(table.current().covered().get(&0), Some(&2), "the newest one is in memory");
}

#[tokio::test]
async fn commits_of_others_are_seen_when_they_are_asked_for() {
    let dir = tempfile::tempdir().expect("dir");
    let writer = table(dir.path(), Table::Telemetry).await;
    let reader = table(dir.path(), Table::Telemetry).await;
    write(&writer, 0, 3).await;
    let before = reader.current();
    assert_eq!(before.file_count(), 0);
    let after = reader.catch_up().await.expect("catch up");
    assert_eq!((after.file_count(), after.covered().get(&0)), (3, Some(&3)));
    assert_eq!(before.file_count(), 0, "a query that runs keeps what it had");
    let same = reader.catch_up().await.expect("catch up");
    assert!(Arc::ptr_eq(&same, &after), "nothing is read again without a commit");
}

#[tokio::test]
async fn files_keep_the_version_at_which_they_were_first_seen() {
    let dir = tempfile::tempdir().expect("dir");
    let writer = table(dir.path(), Table::Telemetry).await;
    write(&writer, 0, 2).await;
    let since = |table: &LakeTable| {
        let mut since: Vec<i64> = table.current().files.iter().map(|f| f.since).collect();
        since.sort_unstable();
        since
    };
    assert_eq!(since(&writer), [1, 2]);
    let late = table(dir.path(), Table::Telemetry).await;
    assert_eq!((late.opened_at, since(&late)), (2, vec![2, 2]), "it can't know any better");
    write(&writer, 2, 3).await;
    late.catch_up().await.expect("catch up");
    assert_eq!(since(&late), [2, 2, 3]);
}
