use super::*;

#[test]
fn only_names_that_begin_with_a_version_are_files_of_the_log() {
    let dir = tempfile::tempdir().expect("dir");
    for name in [
        "00000000000000000002.json",
        "00000000000000000010.json",
        "00000000000000000002.checkpoint.parquet",
        "00000000000000000003.json#1",
        "_last_checkpoint",
        "0000000000000000000x.json",
        "5.json",
        "größte Datei der Welt.json",
    ] {
        std::fs::write(dir.path().join(name), b"").expect("write");
    }
    let files = log_files(dir.path()).expect("read").expect("a log");
    let names: Vec<(i64, &str)> = files.iter().map(|(v, name)| (*v, name.as_str())).collect();
    assert_eq!(
        names,
        [
            (2, "00000000000000000002.checkpoint.parquet"),
            (2, "00000000000000000002.json"),
            (10, "00000000000000000010.json"),
        ]
    );
}

#[test]
fn a_log_that_does_not_exist_is_none_and_one_that_is_no_folder_an_error() {
    let dir = tempfile::tempdir().expect("dir");
    assert!(log_files(&dir.path().join("none")).expect("read").is_none());
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("write");
    let error = log_files(&file).expect_err("a file");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.cause().is_some_and(|cause| cause.is::<IoError>()));
    assert!(error.to_string().contains("lake.url"), "{error}");
}

#[test]
fn the_length_of_what_is_missing_is_none() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("file");
    assert_eq!(file_length(&file).expect("asked"), None);
    std::fs::write(&file, b"12345").expect("write");
    assert_eq!(file_length(&file).expect("asked"), Some(5));
    file_length(&file.join("below")).expect_err("a file is no folder");
}
