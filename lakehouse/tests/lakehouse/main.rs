//! The lake on real files: flushes, views, the fence between writers, compaction.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod damage;
mod life;
mod model;
mod rollups;
mod schema_evolution;
mod support;

use std::collections::HashSet;

use acuvim_lakehouse::{CompactionPolicy, Dedup, DedupLimits, Flushed, LakeOptions, WriteGuards};
use acuvim_tables::Table;
use acuvim_wire::time::DAY;
use support::{T0, count, dead, lake, lake_with, pairs, push, query, reading};

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_seen_once_before_during_and_after_a_flush() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    push(&lake, 0, 0, &[reading("a", T0), reading("a", T0 + 1)], &[]);
    push(&lake, 1, 0, &[reading("b", T0 + DAY)], &[dead("b")]);
    assert_eq!(count(&lake, true).await, (3, 1));
    assert_eq!(count(&lake, false).await, (0, 0));
    let Flushed::Done { covered, rows } = lake.flush(true).await.expect("flush") else { panic!() };
    assert_eq!(covered.into_iter().collect::<Vec<_>>(), [(0, 2), (1, 2)]);
    assert_eq!((rows["telemetry"], rows["dead_letters"]), (3, 1));
    assert_eq!(count(&lake, true).await, (3, 1));
    assert_eq!(count(&lake, false).await, (3, 1));
    assert_eq!(lake.flush(true).await.expect("flush"), Flushed::Nothing);
    push(&lake, 0, 2, &[reading("a", T0 + 2)], &[]);
    assert_eq!(count(&lake, true).await, (4, 1));
    let view = lake.view(true).expect("view");
    assert_eq!(view.watermark, [3, 2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_view_stays_what_it_was() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    push(&lake, 0, 0, &[reading("a", T0)], &[]);
    let old = lake.view(true).expect("view");
    push(&lake, 0, 1, &[reading("a", T0 + 1)], &[]);
    lake.flush(true).await.expect("flush");
    assert_eq!(support::count_in(&old, Table::Telemetry).await, 1);
    assert_eq!(count(&lake, true).await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_goes_on_where_the_table_is() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    push(&first, 2, 0, &[reading("a", T0), reading("b", T0 + 5)], &[]);
    first.flush(true).await.expect("flush");
    push(&first, 2, 2, &[reading("a", T0 + 7)], &[]);
    drop(first);
    let second = lake(dir.path()).await;
    assert_eq!((second.next_offset(2), second.next_offset(0)), (2, 0));
    assert_eq!(second.newest().get("a"), Some(T0));
    assert_eq!(second.newest().get("b"), Some(T0 + 5));
    assert_eq!(count(&second, true).await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_of_the_same_records_one_is_overtaken_and_nothing_is_there_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) = (lake(dir.path()).await, lake(dir.path()).await);
    push(&one, 0, 0, &[reading("a", T0)], &[dead("a")]);
    push(&two, 0, 0, &[reading("a", T0)], &[dead("a")]);
    push(&two, 1, 0, &[reading("b", T0)], &[]);
    assert!(matches!(one.flush(true).await.expect("flush"), Flushed::Done { .. }));
    assert_eq!(two.flush(true).await.expect("flush"), Flushed::Overtaken { partition: 0 });
    let reader = lake(dir.path()).await;
    assert_eq!(count(&reader, false).await, (1, 1), "all or nothing");
    assert_eq!(count(&two, true).await, (2, 1), "the cut knows what the other committed");
    // The next flush continues where the other writer ended.
    push(&two, 0, 2, &[reading("a", T0 + 1)], &[]);
    assert_eq!(two.flush(true).await.expect("dead letters"), Flushed::Overtaken { partition: 0 });
    assert!(matches!(two.flush(true).await.expect("again"), Flushed::Done { .. }));
    let reader = lake(dir.path()).await;
    assert_eq!(count(&reader, false).await, (3, 1));
    assert_eq!((reader.next_offset(0), reader.next_offset(1)), (3, 1));
}

/// The control run of the test above: without the fence the same events store rows twice.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_two_writers_of_the_same_records_store_them_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let guards = WriteGuards::default().without_fence();
    let unfenced = || LakeOptions { guards, ..support::options(dir.path()) };
    let (one, two) = (lake_with(unfenced()).await, lake_with(unfenced()).await);
    for lake in [&one, &two] {
        push(lake, 0, 0, &[reading("a", T0)], &[dead("a")]);
    }
    for lake in [&one, &two] {
        assert!(matches!(lake.flush(true).await.expect("flush"), Flushed::Done { .. }));
    }
    assert_eq!(count(&two, false).await, (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_followed_is_seen_whole_and_not_written() {
    let dir = tempfile::tempdir().expect("dir");
    let (writer, follower) = (lake(dir.path()).await, lake(dir.path()).await);
    (0..4).for_each(|partition| follower.own(partition, false));
    for round in 0..6 {
        let rows = [reading("a", T0 + round)];
        push(&follower, 0, round, &rows, &[]);
        let seen = usize::try_from(round).expect("small") + 1;
        assert_eq!(count(&follower, true).await.0, seen);
        push(&writer, 0, round, &rows, &[]);
        writer.flush(true).await.expect("flush");
        assert_eq!(follower.flush(true).await.expect("nothing to write"), Flushed::Nothing);
        assert_eq!(count(&follower, true).await.0, seen, "before it knows of the commit");
        follower.catch_up().await.expect("catch up");
        assert_eq!(count(&follower, true).await.0, seen, "and behind it");
        assert_eq!(follower.tail().size().borrow().rows, 0, "what the tables have is let go");
    }
    follower.unfollow(0);
    writer.unfollow(0);
    push(&writer, 0, 9, &[reading("a", T0 + 9)], &[]);
    writer.own(0, true);
    let error = writer.flush(true).await.expect_err("a gap is not committed over");
    assert_eq!(error.kind(), acuvim_lakehouse::ErrorKind::Internal);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_different_partitions_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) = (lake(dir.path()).await, lake(dir.path()).await);
    for round in 0..3 {
        push(&one, 0, round, &[reading("a", T0 + round)], &[]);
        push(&two, 1, round, &[reading("b", T0 + round)], &[]);
        assert!(matches!(one.flush(true).await.expect("flush"), Flushed::Done { .. }));
        assert!(matches!(two.flush(true).await.expect("flush"), Flushed::Done { .. }));
    }
    let reader = lake(dir.path()).await;
    assert_eq!(count(&reader, false).await.0, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_ahead_of_telemetry_are_not_written_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let first = lake(dir.path()).await;
    push(&first, 0, 0, &[reading("a", T0)], &[dead("a")]);
    // A crash between the two commits: dead_letters covers the records, telemetry does not.
    first.flush(true).await.expect("flush");
    std::fs::remove_dir_all(dir.path().join("telemetry")).expect("remove");
    let second = lake(dir.path()).await;
    assert_eq!(second.next_offset(0), 0, "telemetry's offset is the restart point");
    push(&second, 0, 0, &[reading("a", T0)], &[dead("a")]);
    assert_eq!(count(&second, true).await, (1, 1));
    second.flush(true).await.expect("flush");
    assert_eq!(count(&second, false).await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_keeps_every_row_sorts_and_bounds_the_files() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let policy = CompactionPolicy { fan_in: 4, max_files: 16, ..CompactionPolicy::default() };
    for round in 0..12 {
        let rows: Vec<_> = (0..5).map(|d| reading(&format!("d{d}"), T0 + round)).collect();
        push(&lake, 0, round * 5, &rows, &[]);
        lake.flush(true).await.expect("flush");
        while lake.compact(policy, 0).await.expect("compact").is_some() {}
    }
    let snapshot = lake.snapshot(Table::Telemetry).expect("snapshot");
    assert!(snapshot.file_count() < 8, "{} files", snapshot.file_count());
    assert_eq!(count(&lake, true).await.0, 60);
    assert_eq!(lake.next_offset(0), 60, "offsets are untouched");
    let reopened = support::lake(dir.path()).await;
    assert_eq!(count(&reopened, false).await.0, 60);
    let all = query(&reopened, "SELECT device_id, ts FROM telemetry").await;
    assert_eq!(pairs(&all).into_iter().collect::<HashSet<_>>().len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_removes_what_was_merged_and_nothing_else() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for round in 0..8 {
        push(&lake, 0, round, &[reading("a", T0 + round)], &[]);
        lake.flush(true).await.expect("flush");
    }
    let policy = CompactionPolicy { fan_in: 2, max_files: 16, ..CompactionPolicy::default() };
    while lake.compact(policy, 0).await.expect("compact").is_some() {}
    let on_disk = || {
        let day = dir.path().join("telemetry/date=2026-05-16");
        std::fs::read_dir(day).expect("dir").count()
    };
    let files = lake.snapshot(Table::Telemetry).expect("snapshot").file_count();
    assert!(on_disk() > files);
    let kept = lake.clean(std::time::Duration::from_secs(3600)).await.expect("clean");
    assert_eq!(kept.files, 0, "a query may still read them");
    let cleaned = lake.clean(std::time::Duration::ZERO).await.expect("clean");
    assert!(cleaned.files >= 8, "{cleaned:?}");
    assert_eq!(on_disk(), files);
    push(&lake, 0, 8, &[reading("a", T0 + 8)], &[]);
    lake.flush(true).await.expect("flush goes on");
    assert_eq!(count(&support::lake(dir.path()).await, false).await.0, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_and_a_compaction_at_once_lose_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = std::sync::Arc::new(lake(dir.path()).await);
    for round in 0..8 {
        push(&lake, 0, round, &[reading("a", T0 + round)], &[]);
        lake.flush(true).await.expect("flush");
    }
    for round in 8..16 {
        push(&lake, 0, round, &[reading("a", T0 + round)], &[]);
        let policy = CompactionPolicy { fan_in: 2, max_files: 4, ..CompactionPolicy::default() };
        let (flushed, compacted) = tokio::join!(lake.flush(true), lake.compact(policy, 0));
        assert!(matches!(flushed.expect("flush"), Flushed::Done { .. }));
        compacted.expect("compact");
        assert_eq!(count(&lake, true).await.0, usize::try_from(round).expect("small") + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dedup_asks_lake_and_tail() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    push(&lake, 0, 0, &[reading("a", T0), reading("a", T0 + 2 * DAY), reading("b", T0)], &[]);
    lake.flush(true).await.expect("flush");
    push(&lake, 0, 3, &[reading("a", T0 + 1)], &[]);
    let mut dedup = Dedup::new(lake.newest().clone(), DedupLimits::default());
    lake.newest().note("a", T0 + 2 * DAY);
    let late = [("a", T0), ("a", T0 + 1), ("a", T0 + 3), ("a", T0 + 3)];
    let wanted = dedup.wanted(late.into_iter());
    for (day, times) in lake.stored_times(Table::Telemetry, &wanted).await.expect("load") {
        dedup.load(day, times);
    }
    assert_eq!(dedup.judge(late.into_iter()), [false, false, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn decimals_divide_as_floats_and_days_prune_files() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for day in 0..5 {
        push(&lake, 0, day, &[reading("a", T0 + day * DAY)], &[]);
        lake.flush(true).await.expect("flush");
    }
    let divided = query(&lake, "SELECT voltage_l1_v / 3 AS x FROM telemetry LIMIT 1").await;
    let x =
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(divided[0].column(0));
    assert!((x.value(0) - 230.4 / 3.0).abs() < 1e-9);
    let plan = query(
        &lake,
        "EXPLAIN SELECT count(*) FROM telemetry WHERE ts >= to_timestamp('2026-05-17T00:00:00Z') \
         AND ts < to_timestamp('2026-05-18T00:00:00Z')",
    )
    .await;
    let text = arrow::util::pretty::pretty_format_batches(&plan).expect("format").to_string();
    assert_eq!(text.matches(".parquet").count(), 1, "{text}");
}
