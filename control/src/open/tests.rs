use super::*;
use crate::testing::{add_devices, by, fresh, get_device};

#[tokio::test]
async fn what_is_stored_is_there_after_the_next_start() {
    let (dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    control.close().await;
    let again = Control::open_sqlite(&dir.path().join("control.db")).await.expect("open");
    assert_eq!(get_device(&again, "d").await.device_id, "d");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_with_what_to_do() {
    let (dir, control) = fresh().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum,
         execution_time) VALUES (99, 'later', 1, x'00', 0)";
    control.execute(newer, vec![]).await.expect("a newer version's mark");
    control.close().await;
    let error = Control::open_sqlite(&dir.path().join("control.db")).await.expect_err("newer");
    assert_eq!(error.kind(), ErrorKind::Setup);
    let text = error.to_string();
    assert!(text.contains("its schema is at 99") && text.contains("run that version"), "{text}");
    assert!(text.contains("control.db (control.url)"), "{text}");
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_ran_is_refused() {
    let (dir, control) = fresh().await;
    let edited = "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2";
    control.execute(edited, vec![]).await.expect("another text");
    control.close().await;
    let error = Control::open_sqlite(&dir.path().join("control.db")).await.expect_err("changed");
    assert_eq!(error.kind(), ErrorKind::Setup);
}

#[tokio::test]
async fn a_path_that_cant_be_a_database_is_a_fault_of_the_setup() {
    let dir = tempfile::tempdir().expect("dir");
    for path in [dir.path().to_owned(), dir.path().join("missing").join("control.db")] {
        let error = Control::open_sqlite(&path).await.expect_err("not a file");
        assert_eq!(error.kind(), ErrorKind::Setup, "{error}");
        assert!(error.to_string().contains("(control.url)"), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_url_that_is_none_is_a_fault_of_the_setup() {
    for url in ["", "postgres://["] {
        let error = Control::open_postgres(url).await.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Setup, "{url}: {error}");
    }
}

#[tokio::test]
async fn rows_that_belong_to_a_deleted_row_go_with_it() {
    let (_dir, control) = fresh().await;
    add_devices(&control, &["d"]).await;
    let tag = "INSERT INTO device_tags (tag, device_id) VALUES ('roof', $1)";
    control.execute(tag, vec!["d".into()]).await.expect("tag");
    assert!(control.execute(tag, vec!["none".into()]).await.is_err(), "keys are enforced");
    assert!(control.delete_device("d", None, &by(1)).await.expect("delete"));
    let left = control.count("SELECT COUNT(*) FROM device_tags", vec![]).await.expect("count");
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_commit_is_on_the_disk_when_it_returns() {
    let dir = tempfile::tempdir().expect("dir");
    let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("open");
    // 2 is FULL: the write-ahead log is synced at each commit.
    assert_eq!(control.count("PRAGMA synchronous", vec![]).await.expect("ask"), 2);
    let mode: Option<(String,)> =
        control.fetch_optional("PRAGMA journal_mode", vec![]).await.expect("ask");
    assert_eq!(mode.expect("a mode").0, "wal");
}
