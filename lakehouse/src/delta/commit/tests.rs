use acuvim_tables::Table;

use super::*;
use crate::{
    delta::writer::write_sorted,
    error::ErrorKind,
    testing::{T0, reading, table, telemetry},
};

fn step(expected: Option<i64>, next: i64) -> Step {
    Step { expected, next }
}

/// Writes one row and commits it with steps.
async fn append(table: &LakeTable, steps: &[(u32, Step)]) -> Result<Committed, Error> {
    let rows = telemetry(0, 0, &[reading("a", T0)]);
    let adds = write_sorted(table, &[rows]).await.expect("write");
    table.append(adds, &steps.iter().copied().collect()).await
}

/// Replaces all files of a snapshot, which have two rows, by one.
async fn replace(table: &LakeTable, base: &Snapshot) -> Result<(), Error> {
    let rows = telemetry(0, 0, &[reading("a", T0), reading("a", T0)]);
    let mut adds = write_sorted(table, &[rows]).await.expect("write");
    adds.iter_mut().for_each(|add| add.data_change = false);
    let replacement = Replacement {
        removes: base.removes(&base.files, false),
        adds,
        covered: Covered::new(),
        transactions: Vec::new(),
        operation: DeltaOperation::Optimize { predicate: None, target_size: 1 },
    };
    let committing = table.committing.lock().await;
    table.replace(&committing, base, replacement).await
}

fn is_done(committed: &Result<Committed, Error>) -> bool {
    matches!(committed, Ok(Committed::Done))
}

#[test]
fn a_partition_is_overtaken_if_its_offset_is_not_the_expected_one() {
    let covered = Covered::from([(0, 5), (1, 7)]);
    let overtaken = |steps: &[(u32, Step)]| overtaken(&covered, &steps.iter().copied().collect());
    assert_eq!(overtaken(&[(0, step(Some(5), 9)), (1, step(Some(7), 8))]), None);
    assert_eq!(overtaken(&[(0, step(Some(5), 9)), (1, step(Some(6), 8))]), Some(1));
    assert_eq!(overtaken(&[(0, step(Some(6), 9))]), Some(0), "it went back");
    assert_eq!(overtaken(&[(2, step(None, 1))]), None, "nobody has moved it yet");
    assert_eq!(overtaken(&[(0, step(None, 1))]), Some(0));
    assert_eq!(overtaken(&[(2, step(Some(0), 1))]), Some(2));
    assert_eq!(overtaken(&[]), None);
}

#[tokio::test]
async fn rows_and_offsets_move_together_or_not_at_all() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    assert!(is_done(&append(&table, &[(0, step(None, 5))]).await));
    let first = table.current();
    assert_eq!((first.file_count(), first.covered()), (1, &Covered::from([(0, 5)])));
    let again = append(&table, &[(0, step(None, 5)), (1, step(None, 3))]).await;
    assert!(matches!(again, Ok(Committed::Overtaken(0))), "{again:?}");
    let after = table.current();
    assert_eq!((after.version(), after.file_count()), (first.version(), 1));
    assert_eq!(after.covered().get(&1), None, "not even the partition that was free");
}

#[tokio::test]
async fn of_two_processes_the_second_is_refused_although_it_knows_nothing_of_the_first() {
    let dir = tempfile::tempdir().expect("dir");
    let one = table(dir.path(), Table::Telemetry).await;
    let two = table(dir.path(), Table::Telemetry).await;
    assert!(is_done(&append(&one, &[(0, step(None, 5))]).await));
    let late = append(&two, &[(0, step(None, 5))]).await;
    assert!(matches!(late, Ok(Committed::Overtaken(0))), "{late:?}");
    assert_eq!(two.current().covered(), &Covered::from([(0, 5)]), "it knows now");
    assert!(is_done(&append(&two, &[(0, step(Some(5), 6))]).await));
    // Another partition was free all the time.
    assert!(is_done(&append(&one, &[(3, step(None, 1))]).await));
    assert_eq!(one.current().covered(), &Covered::from([(0, 6), (3, 1)]));
    assert_eq!(one.current().file_count(), 3);
}

#[tokio::test]
async fn a_commit_without_rows_moves_offsets() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    let steps = BTreeMap::from([(2, step(None, 40))]);
    assert!(is_done(&table.append(Vec::new(), &steps).await));
    let now = table.current();
    assert_eq!((now.file_count(), now.covered()), (0, &Covered::from([(2, 40)])));
}

#[tokio::test]
async fn offsets_of_another_epoch_do_not_count() {
    let dir = tempfile::tempdir().expect("dir");
    let first = table(dir.path(), Table::Telemetry).await;
    append(&first, &[(0, step(None, 5))]).await.expect("commit");
    let url = url::Url::from_directory_path(dir.path().join("telemetry")).expect("url");
    let log = crate::delta::table::SourceLog { epoch: 1, partitions: 4 };
    let second = LakeTable::open(url, Table::Telemetry, log).await.expect("open");
    assert_eq!(second.current().covered(), &Covered::new());
    assert!(is_done(&append(&second, &[(0, step(None, 2))]).await));
    assert_eq!(second.current().covered(), &Covered::from([(0, 2)]));
    first.catch_up().await.expect("catch up");
    assert_eq!(first.current().covered(), &Covered::from([(0, 5)]), "each has its own");
}

#[tokio::test]
async fn files_that_two_processes_replace_are_replaced_once() {
    let dir = tempfile::tempdir().expect("dir");
    let one = table(dir.path(), Table::Telemetry).await;
    append(&one, &[(0, step(None, 1))]).await.expect("commit");
    append(&one, &[(0, step(Some(1), 2))]).await.expect("commit");
    let two = table(dir.path(), Table::Telemetry).await;
    let mut outcomes = Vec::new();
    for table in [&one, &two] {
        let base = table.current();
        outcomes.push(replace(table, &base).await.map_err(|error| error.kind()));
    }
    assert_eq!(outcomes, [Ok(()), Err(ErrorKind::Overtaken)]);
    for table in [&one, &two] {
        let now = table.current();
        assert_eq!((now.file_count(), now.covered()), (1, &Covered::from([(0, 2)])));
        assert_eq!(now.data_files().filter_map(|file| file.rows).sum::<usize>(), 2);
    }
}

#[tokio::test]
async fn an_append_between_choosing_files_and_replacing_them_is_kept() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    append(&table, &[(0, step(None, 1))]).await.expect("commit");
    append(&table, &[(0, step(Some(1), 2))]).await.expect("commit");
    let base = table.current();
    append(&table, &[(0, step(Some(2), 3))]).await.expect("commit");
    replace(&table, &base).await.expect("replace");
    let now = table.current();
    assert_eq!((now.file_count(), now.covered()), (2, &Covered::from([(0, 3)])));
    assert_eq!(now.data_files().filter_map(|file| file.rows).sum::<usize>(), 3);
}

#[tokio::test]
async fn a_numbered_append_leaves_its_number_and_the_loser_an_error() {
    let dir = tempfile::tempdir().expect("dir");
    let one = table(dir.path(), Table::Telemetry).await;
    let two = table(dir.path(), Table::Telemetry).await;
    let rows = || telemetry(0, 0, &[reading("a", T0)]);
    let adds = write_sorted(&one, &[rows()]).await.expect("write");
    one.append_once(adds, "outbox:x".to_owned(), 7).await.expect("commit");
    assert_eq!(one.transaction("outbox:x").await.expect("known"), Some(7));
    assert_eq!(two.transaction("outbox:x").await.expect("known"), None);
    let adds = write_sorted(&two, &[rows()]).await.expect("write");
    two.append_once(adds, "outbox:x".to_owned(), 7).await.expect_err("it was there");
    assert_eq!(two.transaction("outbox:x").await.expect("known"), Some(7), "it has looked");
    assert_eq!(two.current().file_count(), 1);
}
