//! Tables that were written by other versions of this program.

use std::path::{Path, PathBuf};

use acuvim_lakehouse::{CompactionPolicy, ErrorKind};
use acuvim_tables::{DATE, Table};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use deltalake::{
    DeltaTable,
    kernel::{StructType, engine::arrow_conversion::TryIntoKernel as _},
};

use crate::support::{self, T0, lake, push, query, reading};

/// Makes tables look as if they were written by a version without these columns.
async fn made_without(dir: &Path, lacks: &[&str], extra: Option<Field>) {
    let fields = Table::Telemetry.schema();
    let mut fields: Vec<Field> = fields
        .fields()
        .iter()
        .filter(|f| !lacks.contains(&f.name().as_str()))
        .map(|f| f.as_ref().clone())
        .collect();
    fields.extend(extra);
    let columns: StructType = (&Schema::new(fields)).try_into_kernel().expect("schema");
    let url = url::Url::from_directory_path(dir.join("telemetry")).expect("url");
    std::fs::create_dir_all(dir.join("telemetry")).expect("dir");
    DeltaTable::try_from_url(url)
        .await
        .expect("table")
        .create()
        .with_columns(columns.fields().cloned())
        .with_partition_columns([DATE])
        .await
        .expect("created");
}

async fn number(lake: &acuvim_lakehouse::Lake, sql: &str) -> i64 {
    let rows: Vec<RecordBatch> = query(lake, sql).await;
    rows[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_lacks_columns_gets_them() {
    let dir = tempfile::tempdir().expect("dir");
    made_without(dir.path(), &["thd_current_avg_pct", "load_type"], None).await;
    let (one, two) = tokio::join!(lake(dir.path()), lake(dir.path()));
    push(&one, 0, 0, &[reading("a", T0)], &[]);
    one.flush(true).await.expect("flush");
    two.catch_up().await.expect("catch up");
    for lake in [&one, &two] {
        let sql = "SELECT count(*) FROM telemetry WHERE thd_current_avg_pct IS NULL AND voltage_l1_v = 230.4";
        assert_eq!(number(lake, sql).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_lacks_what_every_row_has_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    made_without(dir.path(), &["item"], None).await;
    let options = support::options(dir.path());
    let engine = acuvim_lakehouse::Engine::new(&Default::default()).expect("engine");
    let error = acuvim_lakehouse::Lake::open(options, engine).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert!(error.to_string().contains("has no column item"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_a_later_version_are_not_written_away() {
    let dir = tempfile::tempdir().expect("dir");
    let new = Field::new("flicker_pct", DataType::Float64, true);
    made_without(dir.path(), &[], Some(new)).await;
    let lake = lake(dir.path()).await;
    for n in 0..4 {
        push(&lake, 0, n, &[reading("a", T0 + n)], &[]);
        lake.flush(true).await.expect("flush");
    }
    let policy = CompactionPolicy { fan_in: 2, ..CompactionPolicy::default() };
    let done = lake.compact(policy, 0).await.expect("compact");
    let snapshot = lake.snapshot(Table::Telemetry).expect("telemetry");
    assert_eq!(snapshot.file_count(), 4, "{done:?}");
    assert_eq!(number(&lake, "SELECT count(*) FROM telemetry").await, 4);
}

/// This version reads, extends and compacts tables that version 0.1 wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_earlier_release_goes_on() {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lakehouse/release_0_1");
    let dir = tempfile::tempdir().expect("dir");
    copy(&from, dir.path());
    let lake = lake(dir.path()).await;
    assert_eq!(number(&lake, "SELECT count(*) FROM telemetry").await, 40);
    assert_eq!(number(&lake, "SELECT count(DISTINCT (device_id, ts)) FROM telemetry").await, 40);
    assert_eq!(lake.newest().get("d1").map(|ts| ts % 1_000_000), Some(0));
    let next = lake.next_offset(0);
    push(&lake, 0, next, &[reading("d1", T0 + 86_400_000_000)], &[]);
    lake.flush(true).await.expect("flush");
    let policy =
        CompactionPolicy { settle: std::time::Duration::ZERO, ..CompactionPolicy::default() };
    while lake.compact(policy, T0 * 2).await.expect("compact").is_some() {}
    assert_eq!(number(&lake, "SELECT count(*) FROM telemetry").await, 41);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("dir");
    for entry in std::fs::read_dir(from).expect("dir") {
        let entry = entry.expect("entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copy");
        }
    }
}
