use std::{sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;

use super::*;
use crate::error::ErrorKind;

/// A table folder whose commits and data files are written by hand.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir_all(dir.path().join(LOG)).expect("folder");
        Self(dir)
    }

    /// Writes a data file, and returns its length.
    fn data(&self, name: &str) -> u64 {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_from_iter([("n", column)]).expect("rows");
        let file = std::fs::File::create(self.0.path().join(name)).expect("create");
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("writer");
        writer.write(&rows).expect("write");
        writer.close().expect("close");
        file_length(&self.0.path().join(name)).expect("asked").expect("it exists")
    }

    fn commit(&self, version: i64, lines: &[String]) {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        self.commit_text(version, text.as_bytes());
    }

    fn commit_text(&self, version: i64, text: &[u8]) {
        let name = format!("{version:020}.json");
        std::fs::write(self.0.path().join(LOG).join(name), text).expect("write");
    }

    fn log(&self) -> TableLog {
        let folder = self.0.path().to_path_buf();
        TableLog::read(Table::Telemetry, folder).expect("read").expect("a table")
    }

    fn first_damage(&self) -> Option<(i64, String)> {
        self.log().first_damage(UNIX_EPOCH).expect("checked")
    }
}

fn add(path: &str, size: u64) -> String {
    format!(r#"{{"add":{{"path":"{path}","size":{size}}}}}"#)
}

fn remove(path: &str) -> String {
    format!(r#"{{"remove":{{"path":"{path}"}}}}"#)
}

fn at(timestamp: i64) -> String {
    format!(r#"{{"commitInfo":{{"timestamp":{timestamp}}}}}"#)
}

#[test]
fn a_table_that_is_whole_has_no_damage() {
    let folder = Folder::new();
    let size = folder.data("a.parquet");
    folder.commit(0, &[at(1)]);
    folder.commit(1, &[add("a.parquet", size)]);
    assert_eq!(folder.first_damage(), None);
    assert_eq!(folder.log().description(), None);
    assert_eq!(folder.log().newest(), 1);
}

#[test]
fn a_file_that_is_missing_of_another_length_or_no_parquet_is_damage() {
    let folder = Folder::new();
    let size = folder.data("a.parquet");
    folder.commit(0, &[at(1)]);
    let damage = |path: &str, size: u64| {
        folder.commit(1, &[add(path, size)]);
        folder.first_damage().map(|(version, what)| {
            assert_eq!(version, 1);
            what
        })
    };
    assert_eq!(damage("a.parquet", size), None);
    assert_eq!(damage("b.parquet", size), Some("b.parquet: it is gone".to_owned()));
    let longer = damage("a.parquet", size + 1).expect("damage");
    assert_eq!(longer, format!("a.parquet: {size} bytes, not {}", size + 1));
    std::fs::write(folder.0.path().join("c.parquet"), [0; 64]).expect("write");
    assert!(damage("c.parquet", 64).expect("damage").starts_with("c.parquet: "));
    std::fs::write(folder.0.path().join("empty"), b"").expect("write");
    assert!(damage("empty", 0).is_some());
    assert!(damage("../outside", 1).is_some(), "a path never leaves the table's folder");
}

#[test]
fn names_in_commits_are_encoded_as_in_urls() {
    let folder = Folder::new();
    let size = folder.data("a b.parquet");
    folder.commit(0, &[add("a%20b.parquet", size)]);
    assert_eq!(folder.first_damage(), None);
}

#[test]
fn a_torn_or_empty_commit_is_damage_and_says_how() {
    let folder = Folder::new();
    folder.commit(0, &[at(1)]);
    folder.commit_text(1, br#"{"add":{"path":"a.par"#);
    let (version, what) = folder.first_damage().expect("damage");
    assert_eq!(version, 1);
    assert!(what.starts_with("the commit is cut off or no JSON"), "{what}");
    for empty in ["", "\n\n"] {
        folder.commit_text(1, empty.as_bytes());
        assert_eq!(folder.first_damage(), Some((1, "the commit is empty".to_owned())));
    }
}

#[test]
fn a_file_that_a_later_commit_removes_may_be_missing() {
    let folder = Folder::new();
    let size = folder.data("merged.parquet");
    folder.commit(0, &[add("cleaned.parquet", 9)]);
    folder.commit(1, &[remove("cleaned.parquet"), add("merged.parquet", size)]);
    assert_eq!(folder.first_damage(), None);
}

#[test]
fn giving_up_a_merge_brings_back_files_that_may_be_missing() {
    let folder = Folder::new();
    let size = folder.data("intact.parquet");
    folder.commit(0, &[add("intact.parquet", size)]);
    folder.commit(1, &[add("cleaned.parquet", 9)]);
    folder.commit(2, &[at(1)]);
    // The merge that replaced it is itself damaged.
    folder.commit(3, &[remove("cleaned.parquet"), add("lost.parquet", 9)]);
    assert_eq!(folder.first_damage(), Some((1, "cleaned.parquet: it is gone".to_owned())));
}

#[test]
fn the_earliest_of_several_damages_counts() {
    let folder = Folder::new();
    folder.commit(0, &[at(1)]);
    folder.commit(1, &[add("first.parquet", 9)]);
    folder.commit(2, &[add("second.parquet", 9)]);
    assert_eq!(folder.first_damage().expect("damage").0, 1);
}

#[test]
fn old_commits_are_not_checked() {
    let folder = Folder::new();
    folder.commit(0, &[add("cleaned.parquet", 9)]);
    folder.commit(1, &[at(1)]);
    let log = folder.log();
    let later = log.commits[&1] + Duration::from_secs(1);
    assert_eq!(log.first_damage(later).expect("checked"), None);
    assert!(log.first_damage(UNIX_EPOCH).expect("checked").is_some());
}

#[test]
fn the_time_of_a_commit_is_its_own_or_else_that_of_its_file_less_the_skew() {
    let folder = Folder::new();
    folder.commit(0, &[at(1_000)]);
    folder.commit_text(1, b"torn");
    folder.commit(2, &[at(3_000)]);
    let mut log = folder.log();
    let modified = |ms| UNIX_EPOCH + Duration::from_millis(ms);
    log.commits = [(0, modified(1_500)), (1, modified(2_700)), (2, modified(3_200))].into();
    assert_eq!(log.time(0), 1_000);
    // The files are up to 500 ms later than their commits say.
    assert_eq!(log.time(1), 2_200);
    assert_eq!(log.newest_before(1_000), -1);
    assert_eq!(log.newest_before(1_001), 0);
    assert_eq!(log.newest_before(2_201), 1);
    assert_eq!(log.newest_before(9_999), 2);
}

#[test]
fn without_any_stated_time_the_skew_is_a_minute() {
    let folder = Folder::new();
    folder.commit_text(0, b"torn");
    let mut log = folder.log();
    log.commits = [(0, UNIX_EPOCH + Duration::from_secs(100))].into();
    assert_eq!(log.time(0), 40_000);
    assert_eq!(log.time(7), -60_000, "a commit that does not exist");
}

#[test]
fn what_a_commit_changes_is_read_from_all_its_lines() {
    let folder = Folder::new();
    let lines = [
        at(5),
        r#"{"txn":{"appId":"telemetry:0:1","version":9}}"#.to_owned(),
        add("a", 7),
        remove("b"),
        r#"{"protocol":{}}"#.to_owned(),
    ];
    folder.commit(0, &lines);
    let changes = Changes::read(&folder.log().commit_path(0)).expect("read").expect("whole");
    let added = &changes.added[0];
    assert_eq!((added.path.as_str(), added.size), ("a", 7));
    assert_eq!(
        (changes.removed, changes.app_ids),
        (vec!["b".to_owned()], vec!["telemetry:0:1".to_owned()])
    );
    assert_eq!(changes.committed_at, Some(5));
    let missing = Changes::read(&folder.log().commit_path(1)).expect_err("no such commit");
    assert_eq!(missing.kind(), ErrorKind::Unavailable, "a disk that fails is no damage");
}

#[test]
fn a_folder_without_a_log_is_no_table() {
    let dir = tempfile::tempdir().expect("dir");
    let log = TableLog::read(Table::Telemetry, dir.path().join("none")).expect("read");
    assert!(log.is_none());
}
