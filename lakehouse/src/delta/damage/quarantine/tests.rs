use super::*;

/// A table folder whose log has files with some contents.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::create_dir_all(dir.path().join(LOG)).expect("folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(LOG).join(name), text).expect("write");
    }
    dir
}

/// The names in the quarantine.
fn quarantined(dir: &tempfile::TempDir) -> Vec<String> {
    let names = |path: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.expect("entry").path()).collect()
    };
    let files = names(dir.path().join(QUARANTINE)).into_iter().flat_map(names);
    let mut files: Vec<String> = files
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    files.sort();
    files
}

fn quarantine(dir: &tempfile::TempDir) -> Quarantine {
    Quarantine::new(dir.path(), DurableFiles::new())
}

#[test]
fn a_file_is_moved_and_never_lost() {
    let dir = folder(&[("a.json", "text"), ("b.json", "more")]);
    quarantine(&dir).take("a.json").expect("take");
    assert_eq!(quarantined(&dir), ["a.json"]);
    assert!(!dir.path().join(LOG).join("a.json").exists());
    assert!(dir.path().join(LOG).join("b.json").exists());
    let error = quarantine(&dir).take("none.json").expect_err("no such file");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn the_name_of_the_newest_checkpoint_goes_if_it_is_later_or_unreadable() {
    for (text, goes) in [
        (r#"{"version":5,"size":9}"#, false),
        (r#"{"version":6,"size":9}"#, true),
        (r#"{"version":4}"#, false),
        (r#"{"version":"5"}"#, true),
        ("{}", true),
        ("", true),
    ] {
        let dir = folder(&[(LAST_CHECKPOINT, text)]);
        quarantine(&dir).take_last_checkpoint_after(5).expect("take");
        assert_eq!(!quarantined(&dir).is_empty(), goes, "{text}");
        assert_eq!(dir.path().join(LOG).join(LAST_CHECKPOINT).exists(), !goes, "{text}");
    }
    let dir = folder(&[]);
    quarantine(&dir).take_last_checkpoint_after(5).expect("there is none");
    assert!(quarantined(&dir).is_empty());
}

fn commits(versions: std::ops::RangeInclusive<i64>) -> BTreeMap<i64, SystemTime> {
    versions.map(|version| (version, UNIX_EPOCH)).collect()
}

fn checkpoint(version: i64) -> (i64, String) {
    (version, format!("{version:020}.checkpoint.parquet"))
}

#[test]
fn a_torn_checkpoint_goes_if_the_commits_that_it_sums_up_are_there() {
    let (_, name) = checkpoint(5);
    let dir = folder(&[(name.as_str(), "torn"), (LAST_CHECKPOINT, r#"{"version":5}"#)]);
    let files = [checkpoint(5)];
    quarantine_torn_checkpoint(dir.path(), &files, &commits(0..=6)).expect("done");
    assert_eq!(quarantined(&dir), [name.as_str(), LAST_CHECKPOINT]);
}

#[test]
fn commits_since_the_checkpoint_before_are_enough() {
    let (_, name) = checkpoint(9);
    let dir = folder(&[(name.as_str(), "torn")]);
    let files = [checkpoint(5), checkpoint(9)];
    quarantine_torn_checkpoint(dir.path(), &files, &commits(6..=9)).expect("done");
    assert_eq!(quarantined(&dir), [name.as_str()]);
}

#[test]
fn without_all_those_commits_the_start_is_refused_and_nothing_moves() {
    let (_, name) = checkpoint(5);
    let dir = folder(&[(name.as_str(), "torn")]);
    for (files, commits) in [
        (vec![checkpoint(5)], commits(1..=5)),
        (vec![checkpoint(5)], commits(0..=4)),
        (vec![checkpoint(2), checkpoint(5)], commits(4..=5)),
    ] {
        let error = quarantine_torn_checkpoint(dir.path(), &files, &commits).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Setup);
        assert!(error.to_string().contains(&name), "{error}");
        assert!(dir.path().join(LOG).join(&name).exists());
    }
}

#[test]
fn without_checkpoints_there_is_nothing_to_do() {
    let dir = folder(&[]);
    let files = [(0, format!("{:020}.json", 0))];
    quarantine_torn_checkpoint(dir.path(), &files, &commits(0..=0)).expect("done");
    assert!(quarantined(&dir).is_empty());
}
