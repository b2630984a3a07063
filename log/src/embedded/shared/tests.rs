//! Opening a folder: what is moved aside, what is left alone, and what each error is.

use super::*;
use crate::testing::options;

fn kind_of(path: &Path) -> (ErrorKind, String) {
    let error = Shared::open(options(path)).expect_err("not opened");
    (error.kind(), error.to_string())
}

#[test]
fn a_folder_that_is_moved_aside_replaces_no_other() {
    let root = tempfile::tempdir().expect("dir");
    let path = root.path().join("log");
    for n in 1..=3 {
        std::fs::create_dir_all(&path).expect("a folder");
        std::fs::write(path.join("0.jnl"), format!("journal {n}")).expect("written");
        move_incomplete_store(&path).expect("moved");
        for earlier in 1..=n {
            let aside = root.path().join(format!("log.aside-{earlier}"));
            let kept = std::fs::read_to_string(aside.join("0.jnl")).expect("kept");
            assert_eq!(kept, format!("journal {earlier}"));
        }
        assert!(path.is_dir() && !path.join("0.jnl").exists());
    }
}

#[test]
fn a_folder_without_a_journal_or_with_a_version_is_left_where_it_is() {
    let root = tempfile::tempdir().expect("dir");
    for files in [&[][..], &["notes.txt"], &["0.jnl", "version"], &["version"]] {
        let path = root.path().join(format!("log-{}", files.join("-")));
        std::fs::create_dir_all(&path).expect("a folder");
        for file in files {
            std::fs::write(path.join(file), "x").expect("written");
        }
        move_incomplete_store(&path).expect("looked at");
        assert!(files.iter().all(|file| path.join(file).exists()), "{files:?}");
    }
    let new = root.path().join("not/there/yet");
    move_incomplete_store(&new).expect("created");
    assert!(new.is_dir());
}

#[test]
fn each_reason_not_to_open_names_the_folder() {
    let root = tempfile::tempdir().expect("dir");
    let file = root.path().join("file");
    std::fs::write(&file, "x").expect("written");
    for path in [file.clone(), file.join("below")] {
        let (kind, message) = kind_of(&path);
        assert_eq!(kind, ErrorKind::Setup, "{message}");
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
    let path = root.path().join("log");
    let first = Shared::open(options(&path)).expect("a log");
    let (kind, message) = kind_of(&path);
    assert_eq!(kind, ErrorKind::Setup);
    assert!(message.contains("in use by another process"), "{message}");
    drop(first);
    std::fs::write(path.join("version"), "of something else").expect("written");
    let (kind, message) = kind_of(&path);
    assert_eq!(kind, ErrorKind::Corrupt, "{message}");
}

#[test]
fn a_log_keeps_its_id_and_another_has_another() {
    let root = tempfile::tempdir().expect("dir");
    let id = |name: &str| Shared::open(options(&root.path().join(name))).expect("a log").id;
    let (one, again, other) = (id("one"), id("one"), id("other"));
    assert_eq!(one, again);
    assert_ne!(one, other);
    assert!(uuid::Uuid::parse_str(&one).is_ok());
}
