use std::time::Duration;

use crate::{
    CompactionPolicy, ErrorKind, Lake, View,
    testing::{T0, lake, pairs, push, reading, rows_of, store},
};

async fn times(view: &View) -> Vec<i64> {
    let rows = rows_of(view, "SELECT device_id, ts FROM telemetry ORDER BY ts").await;
    pairs(&rows).into_iter().map(|(_, ts)| ts - T0).collect()
}

fn version(lake: &Lake) -> i64 {
    lake.view(false).expect("view").version
}

#[tokio::test]
async fn an_older_view_has_the_rows_and_offsets_of_its_version_and_no_tail() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    store(&lake, &[reading("a", T0)]).await;
    let first = version(&lake);
    store(&lake, &[reading("a", T0 + 1)]).await;
    push(&lake, &[reading("a", T0 + 2)]);
    let old = lake.view_at(first).await.expect("view");
    assert_eq!((times(&old).await, old.watermark.iter().sum::<i64>()), (vec![0], 1));
    let newest = lake.view_at(version(&lake)).await.expect("view");
    assert_eq!((times(&newest).await, newest.watermark.iter().sum::<i64>()), (vec![0, 1], 2));
    assert_eq!(newest.tables.len(), 1, "other tables have versions of their own");
}

#[tokio::test]
async fn a_version_that_another_process_has_made_is_found() {
    let dir = tempfile::tempdir().expect("dir");
    let (writer, reader) = (lake(dir.path()).await, lake(dir.path()).await);
    store(&writer, &[reading("a", T0)]).await;
    store(&writer, &[reading("a", T0 + 1)]).await;
    let newest = version(&writer);
    assert!(newest > version(&reader));
    assert_eq!(times(&reader.view_at(newest).await.expect("view")).await, [0, 1]);
    assert_eq!(times(&reader.view_at(newest - 1).await.expect("view")).await, [0]);
    let error = reader.view_at(newest + 1).await.expect_err("nobody has made it");
    assert_eq!(error.kind(), ErrorKind::NoVersion);
}

#[tokio::test]
async fn merged_rows_can_be_read_at_their_version_until_they_are_cleaned() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for n in 0..3 {
        store(&lake, &[reading("a", T0 + n)]).await;
    }
    let before = version(&lake);
    let policy = CompactionPolicy { fan_in: 3, ..CompactionPolicy::default() };
    lake.compact(policy, 0).await.expect("compact").expect("three files");
    lake.clean(Duration::from_secs(60)).await.expect("clean");
    assert_eq!(times(&lake.view_at(before).await.expect("view")).await, [0, 1, 2]);
    lake.clean(Duration::ZERO).await.expect("clean");
    let view = lake.view_at(before).await.expect("its commits are still there");
    let session = lake.engine().session();
    session.register_table("t", view.tables[0].clone()).expect("register");
    let gone = session.sql("SELECT ts FROM t").await.expect("plan").collect().await;
    let error = gone.expect_err("its files are gone");
    assert!(crate::may_be_damage(&error), "{error}");
    assert_eq!(times(&lake.view(false).expect("view")).await, [0, 1, 2]);
}
