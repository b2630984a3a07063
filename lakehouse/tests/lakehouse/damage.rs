//! Recovery after a power cut that has damaged the newest commits: the lake goes back to before them, and
//! the rows that are read from the log again are stored once.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
};

use acuvim_lakehouse::{Damage, ErrorKind, Lake, LakeOptions};
use acuvim_tables::Table;

use crate::support::{T0, count, dead, lake, options, pairs, push, query, reading};

/// The number of records in a round: two readings and a dead letter.
const ROUND: i64 = 3;

/// Pushes rounds of records. Repeating a round pushes the same records, as reading the log again does.
async fn write(lake: &Lake, rounds: std::ops::Range<i64>) {
    for round in rounds {
        let rows = [reading("a", T0 + round), reading("b", T0 + round)];
        push(lake, 0, round * ROUND, &rows, &[dead("a")]);
        lake.flush(true).await.expect("flush");
    }
}

fn commits(dir: &Path, table: Table) -> BTreeSet<PathBuf> {
    let log = dir.join(table.name()).join("_delta_log");
    let files = std::fs::read_dir(log).expect("log").map(|entry| entry.expect("entry").path());
    files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}

fn newest_commit(dir: &Path, table: Table) -> PathBuf {
    commits(dir, table).into_iter().next_back().expect("a commit")
}

/// The file that a commit added.
fn added(dir: &Path, table: Table, commit: &Path) -> PathBuf {
    let text = std::fs::read_to_string(commit).expect("commit");
    let mut actions =
        text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("json"));
    let path =
        actions.find_map(|a| a.pointer("/add/path").and_then(|p| p.as_str().map(str::to_owned)));
    dir.join(table.name()).join(path.expect("an added file"))
}

fn cut(path: &Path, to: u64) {
    let file = std::fs::File::options().write(true).open(path).expect("open");
    // A power cut does not change the modification time.
    let written = file.metadata().and_then(|of| of.modified()).expect("a time");
    file.set_len(to).expect("cut");
    file.set_modified(written).expect("set");
}

/// Recovers as a start does, and reads the log again. `from` is the first damaged round.
async fn recovered(dir: &Path, from: i64, rounds: i64) {
    let damage = Damage::find(&options(dir)).await.expect("looked at").expect("damaged");
    assert_eq!(damage.what().len(), 1, "{:?}", damage.what());
    let restart = damage.restart().expect("the log").get(&0).copied().expect("covered");
    // A commit of the same milliseconds can be rolled back too.
    assert!(((from - 1) * ROUND..=from * ROUND).contains(&restart), "{restart}");
    damage.set_aside().await.expect("set aside");
    assert!(Damage::find(&options(dir)).await.expect("looked at").is_none(), "once is enough");
    let again = lake(dir).await;
    assert_eq!(again.next_offset(0), restart);
    write(&again, restart / ROUND..rounds).await;
    let stored = usize::try_from(rounds).expect("small");
    assert_eq!(count(&again, false).await, (stored * 2, stored));
    let rows = pairs(&query(&again, "SELECT device_id, ts FROM telemetry").await);
    assert_eq!(rows.into_iter().collect::<HashSet<_>>().len(), stored * 2, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_is_whole_is_left_alone() {
    let dir = tempfile::tempdir().expect("dir");
    assert!(Damage::find(&options(dir.path())).await.expect("nothing there").is_none());
    let lake = lake(dir.path()).await;
    write(&lake, 0..3).await;
    assert!(Damage::find(&options(dir.path())).await.expect("looked at").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_file_that_is_cut_off_comes_again_from_the_log() {
    for length in [0, 100] {
        let dir = tempfile::tempdir().expect("dir");
        write(&lake(dir.path()).await, 0..5).await;
        let commit = newest_commit(dir.path(), Table::Telemetry);
        cut(&added(dir.path(), Table::Telemetry, &commit), length);
        recovered(dir.path(), 4, 5).await;
        let aside = dir.path().join("telemetry/_damaged");
        assert_eq!(std::fs::read_dir(aside).expect("folder").count(), 1, "nothing is deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_commit_that_is_empty_or_cut_off_comes_again_from_the_log() {
    for length in [0, 200] {
        let dir = tempfile::tempdir().expect("dir");
        write(&lake(dir.path()).await, 0..5).await;
        cut(&newest_commit(dir.path(), Table::Telemetry), length);
        recovered(dir.path(), 4, 5).await;
    }
}

/// Asserts that recovery is refused with a reason, and that nothing was moved.
async fn is_refused(dir: &Path, table: Table, why: &str) {
    let before = commits(dir, table);
    let error = Damage::find(&options(dir)).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(commits(dir, table), before, "all is where it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_goes_back_only_to_what_is_there() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path();
    write(&lake(path).await, 0..5).await;
    let all: Vec<PathBuf> = commits(path, Table::Telemetry).into_iter().collect();
    cut(all.last().expect("a commit"), 0);
    // A file that an old commit names is missing, as after compaction and cleaning. Commits of that age are
    // not checked, but a rollback needs the file.
    let old = added(path, Table::Telemetry, &all[1]);
    std::fs::remove_file(&old).expect("removed");
    for commit in &all[..all.len() - 1] {
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
        let file = std::fs::File::options().append(true).open(commit).expect("open");
        file.set_modified(long_ago).expect("set");
    }
    is_refused(path, Table::Telemetry, "is gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_log_has_brought_is_not_given_up() {
    let dir = tempfile::tempdir().expect("dir");
    write(&lake(dir.path()).await, 0..5).await;
    let commit = newest_commit(dir.path(), Table::Telemetry);
    cut(&added(dir.path(), Table::Telemetry, &commit), 0);
    let later = LakeOptions { epoch: 1, ..options(dir.path()) };
    let error = Damage::find(&later).await.expect_err("refused");
    assert!(error.to_string().contains("laid out anew"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_table_the_readings_go_back_too() {
    let dir = tempfile::tempdir().expect("dir");
    write(&lake(dir.path()).await, 0..5).await;
    cut(&newest_commit(dir.path(), Table::DeadLetters), 0);
    recovered(dir.path(), 4, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_missing_takes_what_came_after_it_back() {
    let dir = tempfile::tempdir().expect("dir");
    write(&lake(dir.path()).await, 0..6).await;
    let third = commits(dir.path(), Table::Telemetry).into_iter().nth(3).expect("a commit");
    std::fs::remove_file(added(dir.path(), Table::Telemetry, &third)).expect("remove");
    recovered(dir.path(), 2, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_whose_first_readings_are_damaged_begins_anew() {
    let dir = tempfile::tempdir().expect("dir");
    write(&lake(dir.path()).await, 0..1).await;
    cut(&newest_commit(dir.path(), Table::Telemetry), 0);
    let damage = Damage::find(&options(dir.path())).await.expect("looked at").expect("damaged");
    assert_eq!(damage.restart().expect("the log").get(&0), None);
    damage.set_aside().await.expect("set aside");
    let again = lake(dir.path()).await;
    write(&again, 0..1).await;
    assert_eq!(count(&again, false).await, (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_done_without() {
    let dir = tempfile::tempdir().expect("dir");
    write(&lake(dir.path()).await, 0..52).await;
    let log = dir.path().join("telemetry/_delta_log");
    let checkpoint = log.join(format!("{:020}.checkpoint.parquet", 49));
    cut(&checkpoint, 100);
    assert!(Damage::find(&options(dir.path())).await.expect("looked at").is_none());
    assert!(!checkpoint.exists());
    let again = lake(dir.path()).await;
    assert_eq!(count(&again, false).await, (104, 52));
    // Without all commits that the checkpoint sums up, it can't be replaced.
    let log = dir.path().join("dead_letters/_delta_log");
    cut(&log.join(format!("{:020}.checkpoint.parquet", 49)), 100);
    std::fs::remove_file(log.join(format!("{:020}.json", 7))).expect("remove");
    let error = Damage::find(&options(dir.path())).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Setup, "{error}");
}
