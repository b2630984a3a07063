use acuvim_tables::Table;
use proptest::prelude::*;

use super::*;
use crate::testing::{T0, dead_letters, reading, table, telemetry};

/// Writes batches of devices, and returns the device ranges and row counts of the files.
async fn written(limit: usize, batches: &[&str]) -> Vec<(String, usize)> {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    let mut writer = SplitWriter::new(&table, limit).expect("writer");
    for batch in batches {
        let names: Vec<String> = batch.chars().map(String::from).collect();
        let rows: Vec<_> = names.iter().map(|name| reading(name, T0)).collect();
        writer.write(&telemetry(0, 0, &rows)).await.expect("write");
    }
    let adds = writer.close().await.expect("close");
    if adds.is_empty() {
        return Vec::new();
    }
    table.append(adds, &Default::default()).await.expect("commit");
    let snapshot = table.current();
    let of = |file: crate::DataFile<'_>| {
        let (first, last) = file.devices.expect("known");
        (format!("{first}{last}"), file.rows.expect("known"))
    };
    let mut files: Vec<_> = snapshot.data_files().map(of).collect();
    files.sort();
    files
}

fn files(wanted: &[(&str, usize)]) -> Vec<(String, usize)> {
    wanted.iter().map(|(range, rows)| ((*range).to_owned(), *rows)).collect()
}

#[tokio::test]
async fn a_file_ends_at_the_first_change_of_device_once_it_is_full() {
    assert_eq!(written(3, &["aabbcc"]).await, files(&[("ab", 4), ("cc", 2)]));
    assert_eq!(written(2, &["aabbcc"]).await, files(&[("aa", 2), ("bb", 2), ("cc", 2)]));
    assert_eq!(written(6, &["aabbcc"]).await, files(&[("ac", 6)]));
}

#[tokio::test]
async fn a_device_is_never_divided_even_between_batches() {
    assert_eq!(written(1, &["aaaa", "aab"]).await, files(&[("aa", 6), ("bb", 1)]));
    assert_eq!(written(2, &["aa", "bb", "b"]).await, files(&[("aa", 2), ("bb", 3)]));
    assert_eq!(written(2, &["", "a", "", "b"]).await, files(&[("ab", 2)]));
    assert!(written(2, &[""]).await.is_empty());
}

#[tokio::test]
async fn rows_without_a_device_are_those_of_one() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::DeadLetters).await;
    let mut writer = SplitWriter::new(&table, 1).expect("writer");
    let letters = [("", T0, "?"), ("", T0, "?"), ("a", T0, "?")];
    writer.write(&dead_letters(0, 0, &letters)).await.expect("write");
    assert_eq!(writer.close().await.expect("close").len(), 2);
}

#[tokio::test]
async fn what_is_abandoned_leaves_no_complete_file() {
    let dir = tempfile::tempdir().expect("dir");
    let table = table(dir.path(), Table::Telemetry).await;
    let mut writer = SplitWriter::new(&table, 1).expect("writer");
    let rows = ["a", "b", "c"].map(|device| reading(device, T0));
    writer.write(&telemetry(0, 0, &rows)).await.expect("write");
    assert_eq!(writer.adds.len(), 2);
    writer.abandon().await;
    let day = dir.path().join("telemetry/date=2026-05-16");
    let left = std::fs::read_dir(day).into_iter().flatten();
    let parquet = left.filter(|entry| {
        let name = entry.as_ref().expect("entry").file_name();
        name.to_string_lossy().ends_with(".parquet")
    });
    assert_eq!(parquet.count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn every_row_is_in_a_file_and_every_device_in_one(
        counts in prop::collection::vec(1..5_usize, 1..6),
        limit in 1..8_usize,
        cut in 1..6_usize,
    ) {
        let rows: String = ('a'..).zip(&counts).map(|(c, n)| c.to_string().repeat(*n)).collect();
        let batches: Vec<&str> =
            rows.as_bytes().chunks(cut).map(|b| std::str::from_utf8(b).expect("text")).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let files = runtime.expect("runtime").block_on(written(limit, &batches));
        prop_assert_eq!(files.iter().map(|file| file.1).sum::<usize>(), rows.len());
        let range = |file: &(String, usize)| (file.0.chars().next(), file.0.chars().last());
        prop_assert!(files.windows(2).all(|pair| range(&pair[0]).1 < range(&pair[1]).0));
    }
}
