use super::*;
use crate::testing::table;

fn url_of(lake: &str) -> Result<String, Error> {
    let lake = Url::parse(lake).expect("a URL");
    table_url(&lake, Table::Telemetry).map(String::from)
}

#[test]
fn a_table_lies_below_the_lake_with_or_without_a_slash() {
    for lake in ["s3://bucket/lake", "s3://bucket/lake/"] {
        assert_eq!(url_of(lake).expect("a URL"), "s3://bucket/lake/telemetry");
    }
    assert_eq!(url_of("s3://bucket").expect("a URL"), "s3://bucket/telemetry");
    assert_eq!(url_of("file:///my lake").expect("a URL"), "file:///my%20lake/telemetry");
}

#[test]
fn a_url_that_can_have_no_folders_is_a_fault_of_the_settings() {
    let error = url_of("mailto:lake@example.org").expect_err("no path");
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert!(error.to_string().contains("lake.url"), "{error}");
}

#[test]
fn files_have_statistics_of_what_they_are_pruned_by() {
    let columns = statistics_columns(Table::Telemetry);
    let columns: Vec<&str> = columns.split(',').collect();
    for name in ["device_id", "ts", "received_at", "epoch", "partition", "offset", "voltage_l1_v"] {
        assert!(columns.contains(&name), "{name}: {columns:?}");
    }
    assert!(!columns.contains(&"extra") && !columns.contains(&"energy_import_kwh"), "{columns:?}");
    for table in Table::ALL {
        let columns = statistics_columns(table);
        for name in table.sort_columns() {
            assert!(columns.split(',').any(|column| column == name), "{name}: {columns}");
        }
    }
}

#[tokio::test]
async fn a_folder_that_can_not_be_used_is_a_fault_of_the_settings() {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("telemetry"), b"a file").expect("write");
    let url = Url::from_directory_path(dir.path().join("telemetry")).expect("url");
    let error = open_or_create(url, Table::Telemetry).await.expect_err("a file is there");
    assert_eq!(error.kind(), ErrorKind::Setup, "{error}");
    assert!(error.to_string().starts_with("telemetry (lake.url) can't be opened"), "{error}");
}

#[tokio::test]
async fn two_processes_that_create_a_table_at_once_open_the_same() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) =
        tokio::join!(table(dir.path(), Table::Ledger), table(dir.path(), Table::Ledger));
    assert_eq!((one.current().version(), two.current().version()), (0, 0));
    let log = std::fs::read_dir(dir.path().join("ledger/_delta_log")).expect("a log");
    let names = log.map(|entry| entry.expect("entry").file_name());
    let commits = names.filter(|name| name.to_string_lossy().ends_with(".json"));
    assert_eq!(commits.count(), 1);
}
