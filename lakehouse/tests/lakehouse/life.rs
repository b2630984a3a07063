//! The life of a table's days: past days are put in order, late rows are folded in, expired days are
//! removed; and older versions can be read again.

use std::{collections::BTreeMap, time::Duration};

use acuvim_lakehouse::{CompactionPolicy, ErrorKind, Lake};
use acuvim_tables::Table;
use acuvim_wire::time::{DAY, Micros, SECOND, day_of};

use crate::support::{T0, count_in, lake, pairs, push, query, query_view, reading};

/// A time at which all days of the readings are past.
const LATER: Micros = T0 + 9 * DAY;

fn policy(file_bytes: u64) -> CompactionPolicy {
    CompactionPolicy { fan_in: 4, max_files: 8, file_bytes, settle: Duration::ZERO }
}

async fn settle(lake: &Lake, policy: CompactionPolicy) {
    // The files have real modification times. Seen from the far future, all of them are old.
    let now = LATER + 36_500 * DAY;
    for _ in 0..200 {
        if lake.compact(policy, now).await.expect("compact").is_none() {
            return;
        }
    }
    panic!("compaction has no end: {:?}", lake.snapshot(Table::Telemetry).expect("telemetry"));
}

/// A day's readings of 40 devices, either in order or shuffled, with readings of three earlier days mixed
/// in.
async fn write(lake: &Lake, shuffled: bool) -> usize {
    let mut rows: Vec<(String, Micros)> = Vec::new();
    for minute in 0..50 {
        for device in 0..40 {
            rows.push((format!("d{device:02}"), T0 + minute * 60_000_000));
        }
    }
    for day in 1..=3 {
        for minute in 0..10 {
            rows.push((format!("d{:02}", day * 7), T0 - day * DAY + minute * 60_000_000));
        }
    }
    if shuffled {
        // Steps of a size that is coprime to the count visit each reading once.
        let count = rows.len();
        rows = (0..count).map(|n| rows[n * 1117 % count].clone()).collect();
    }
    for (n, chunk) in rows.chunks(97).enumerate() {
        let readings: Vec<_> = chunk.iter().map(|(d, ts)| reading(d, *ts)).collect();
        push(lake, 0, i64::try_from(n * 97).expect("small"), &readings, &[]);
        lake.flush(true).await.expect("flush");
    }
    rows.len()
}

type Layout = BTreeMap<i32, Vec<(String, String, u64)>>;

fn layout(lake: &Lake) -> Layout {
    let snapshot = lake.snapshot(Table::Telemetry).expect("telemetry");
    let mut days = Layout::new();
    for file in snapshot.data_files() {
        let (first, last) = file.devices.expect("the table says");
        days.entry(file.day).or_default().push((first.into(), last.into(), file.bytes));
    }
    days.values_mut().for_each(|files| files.sort());
    days
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shuffled_day_with_late_ones_ends_like_one_in_order() {
    let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (ordered, shuffled) = (lake(one.path()).await, lake(two.path()).await);
    let rows = write(&ordered, false).await;
    assert_eq!(write(&shuffled, true).await, rows);
    // Small enough for a day to need several files.
    let policy = policy(24_000);
    for lake in [&ordered, &shuffled] {
        settle(lake, policy).await;
        for (day, files) in layout(lake) {
            let apart = files.windows(2).all(|pair| pair[0].1 < pair[1].0);
            assert!(apart, "ranges of day {day} overlap: {files:?}");
            assert!(files.iter().all(|f| f.2 <= policy.file_bytes), "day {day}: {files:?}");
        }
    }
    let files = |lake: &Lake| layout(lake).into_values().map(|f| f.len()).collect::<Vec<_>>();
    assert!(files(&ordered).iter().any(|n| *n > 1), "{:?}", files(&ordered));
    let all = "SELECT device_id, ts FROM telemetry ORDER BY device_id, ts";
    let (a, b) = (pairs(&query(&ordered, all).await), pairs(&query(&shuffled, all).await));
    assert_eq!((a.len(), &a), (rows, &b));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_are_folded_into_a_day_that_was_in_order() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let rows = write(&lake, false).await;
    settle(&lake, policy(24_000)).await;
    let before = layout(&lake);
    push(&lake, 1, 0, &[reading("d07", T0 + 1), reading("d33", T0 + 1)], &[]);
    lake.flush(true).await.expect("flush");
    assert_ne!(layout(&lake), before);
    settle(&lake, policy(24_000)).await;
    for (day, files) in layout(&lake) {
        assert!(files.windows(2).all(|pair| pair[0].1 < pair[1].0), "day {day}: {files:?}");
    }
    assert_eq!(count_in(&lake.view(false).expect("view"), Table::Telemetry).await, rows + 2);
    assert_eq!(lake.next_offset(1), 2, "offsets are untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_drops_old_days_and_says_what() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for (n, day) in (0..6).enumerate() {
        push(&lake, 0, i64::try_from(n).expect("small"), &[reading("a", T0 + day * DAY)], &[]);
        lake.flush(true).await.expect("flush");
    }
    let old = lake.view(false).expect("view");
    let kept = day_of(T0) + 4;
    let dropped = lake.retain(Table::Telemetry, kept, LATER).await.expect("retain");
    assert_eq!((dropped.days, dropped.files, dropped.rows), (4, 4, 4));
    assert!(dropped.bytes > 0);
    assert_eq!(lake.retained_at(Table::Telemetry).await.expect("known"), Some(LATER));
    assert_eq!(lake.retain(Table::Telemetry, kept, LATER + 1).await.expect("again").files, 0);
    let left = query(&lake, "SELECT device_id, ts FROM telemetry ORDER BY ts").await;
    assert_eq!(pairs(&left).len(), 2);
    assert_eq!(count_in(&old, Table::Telemetry).await, 6, "a query that runs keeps what it had");
    assert_eq!(lake.next_offset(0), 6);
    let cleaned = lake.clean(Duration::ZERO).await.expect("clean");
    assert!(cleaned.files >= 4 && cleaned.bytes >= dropped.bytes, "{cleaned:?}");
    let reopened = crate::support::lake(dir.path()).await;
    assert_eq!(count_in(&reopened.view(false).expect("view"), Table::Telemetry).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_and_compaction_of_the_same_files_do_not_undo_each_other() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) = (lake(dir.path()).await, lake(dir.path()).await);
    for n in 0..4 {
        push(&one, 0, n, &[reading("a", T0 + n)], &[]);
        one.flush(true).await.expect("flush");
    }
    two.catch_up().await.expect("catch up");
    one.retain(Table::Telemetry, day_of(T0) + 1, LATER).await.expect("retain");
    let merged = two.compact(policy(1 << 20), LATER).await.expect("compact");
    assert_eq!(merged, None, "its files are gone");
    let reader = lake(dir.path()).await;
    assert_eq!(count_in(&reader.view(false).expect("view"), Table::Telemetry).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_answers_the_same_again() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    let mut seen = Vec::new();
    for n in 0..5 {
        push(&lake, 0, n, &[reading("a", T0 + n)], &[]);
        lake.flush(true).await.expect("flush");
        lake.compact(policy(1 << 20), LATER).await.expect("compact");
        let view = lake.view(false).expect("view");
        seen.push((view.version, count_in(&view, Table::Telemetry).await));
    }
    for (version, rows) in seen {
        let view = lake.view_at(version).await.expect("a version");
        let found = query_view(&view, "SELECT device_id, ts FROM telemetry").await;
        assert_eq!((view.version, pairs(&found).len()), (version, rows));
    }
    for none in [-1, 10_000] {
        let error = lake.view_at(none).await.expect_err("no such version");
        assert_eq!(error.kind(), ErrorKind::NoVersion, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_devices_rows_come_in_order_without_a_sort() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for n in 0..5 {
        let rows = [reading("a", T0 + 10 - n), reading("b", T0 + n)];
        push(&lake, 0, n * 2, &rows, &[]);
        if n < 4 {
            lake.flush(true).await.expect("flush");
        }
    }
    let asked = "SELECT device_id, ts FROM telemetry WHERE device_id = 'a' ORDER BY ts";
    let times: Vec<Micros> = pairs(&query(&lake, asked).await).into_iter().map(|p| p.1).collect();
    assert_eq!(times, (6..=10).map(|n| T0 + n).collect::<Vec<_>>());
    let plan = query(&lake, &format!("EXPLAIN {asked}")).await;
    let text = arrow::util::pretty::pretty_format_batches(&plan).expect("format").to_string();
    assert!(!text.contains("SortExec") && text.contains("SortPreservingMerge"), "{text}");
}

/// Files of one group are consecutive, those of different groups overlap. A stream that has finished its
/// own group must not read files of another.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_rows_in_order_are_the_first_rows() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    // Seconds 0..10 and 90..100 are consecutive; 5..95 overlaps both.
    let files: [Vec<Micros>; 3] =
        [(0..10).collect(), (5..95).step_by(2).collect(), (90..100).collect()];
    let mut offset = 0;
    for times in &files {
        let rows: Vec<_> = times.iter().map(|n| reading("a", T0 + n * SECOND)).collect();
        let count = i64::try_from(rows.len()).expect("small");
        push(&lake, 0, offset, &rows, &[]);
        offset += count;
        lake.flush(true).await.expect("flush");
    }
    let mut all: Vec<Micros> = files.into_iter().flatten().map(|n| T0 + n * SECOND).collect();
    all.sort_unstable();
    for limit in [1, 12, 60, 1000] {
        for _ in 0..10 {
            let asked = format!(
                "SELECT device_id, ts FROM telemetry WHERE device_id = 'a' ORDER BY ts LIMIT {limit}"
            );
            let found: Vec<Micros> =
                pairs(&query(&lake, &asked).await).into_iter().map(|p| p.1).collect();
            assert_eq!(found, all.iter().copied().take(limit).collect::<Vec<_>>(), "{limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_devices_are_not_opened() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for (n, device) in ["a", "b", "c"].into_iter().enumerate() {
        push(&lake, 0, i64::try_from(n).expect("small"), &[reading(device, T0)], &[]);
        lake.flush(true).await.expect("flush");
    }
    for (asked, files) in [
        ("device_id = 'b'", 1),
        ("device_id IN ('a', 'c')", 2),
        ("device_id >= 'b'", 2),
        ("\"offset\" = 2", 1),
        ("device_id = 'x'", 0),
    ] {
        let sql = format!("EXPLAIN SELECT count(*) FROM telemetry WHERE {asked}");
        let plan = query(&lake, &sql).await;
        let text = arrow::util::pretty::pretty_format_batches(&plan).expect("format").to_string();
        assert_eq!(text.matches(".parquet").count(), files, "{asked}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named_and_the_other_days_are_read() {
    let dir = tempfile::tempdir().expect("dir");
    let lake = lake(dir.path()).await;
    for day in 0..3 {
        push(&lake, 0, day, &[reading("a", T0 + day * DAY)], &[]);
        lake.flush(true).await.expect("flush");
    }
    assert!(lake.damaged_files(Duration::from_secs(9)).await.expect("reads").is_empty());
    let day = dir.path().join("telemetry/date=2026-05-17");
    let path =
        std::fs::read_dir(&day).expect("day").next().expect("a file").expect("a file").path();
    let whole = std::fs::read(&path).expect("read");
    let mut flipped = whole.clone();
    flipped[4..600].fill(0xFF);
    for damage in [Some(flipped), Some(whole[..whole.len() / 2].to_vec()), None] {
        match damage {
            Some(bytes) => std::fs::write(&path, bytes).expect("write"),
            None => std::fs::remove_file(&path).expect("remove"),
        }
        let damaged = lake.damaged_files(Duration::from_secs(9)).await.expect("reads");
        let [name] = damaged.as_slice() else { panic!("{damaged:?}") };
        assert!(name.starts_with("telemetry/date=2026-05-17/"), "{name}");
        for other in ["2026-05-16", "2026-05-18"] {
            let sql = format!("SELECT device_id, ts FROM telemetry WHERE date = '{other}'");
            assert_eq!(pairs(&query(&lake, &sql).await).len(), 1);
        }
    }
}
