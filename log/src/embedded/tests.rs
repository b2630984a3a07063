//! The embedded log with one segment for each append: restarts, torn writes, failed writes, limits.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::*;
use crate::{
    error::ErrorKind,
    testing::{ALL, UPLINK, append, entry, open, options, values},
};

async fn bounds(log: &EmbeddedLog) -> (i64, i64) {
    let Bounds { start, end } = log.bounds(UPLINK, 0).await.expect("bounds");
    (start, end)
}

fn names(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_behind_the_last_record_of_the_last_segment() {
    let root = tempfile::tempdir().expect("dir");
    for round in 0..4 {
        let log = open(root.path()).await;
        assert_eq!(bounds(&log).await, (0, i64::from(round) * 3));
        assert_eq!(append(&log, round * 3..round * 3 + 3).await, i64::from(round) * 3 + 2);
        for from in 0..=round * 3 + 3 {
            assert_eq!(values(&log, i64::from(from)).await, names(from..round * 3 + 3));
        }
        log.close().await;
    }
}

/// Offsets are stored elsewhere: a partition that began at 0 again would make the lake skip new records.
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_partition_does_not_begin_at_zero_again() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..5).await;
    log.truncate_before(UPLINK, 0, 5).await.expect("truncated");
    assert_eq!(bounds(&log).await, (5, 5));
    assert!(values(&log, 5).await.is_empty());
    log.close().await;
    let log = open(root.path()).await;
    assert_eq!(bounds(&log).await, (5, 5));
    assert_eq!(append(&log, 5..6).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_beyond_the_end_hides_nothing_that_comes_later() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..3).await;
    log.truncate_before(UPLINK, 0, 1000).await.expect("truncated");
    assert_eq!(bounds(&log).await, (3, 3));
    append(&log, 3..4).await;
    log.close().await;
    let log = open(root.path()).await;
    assert_eq!((bounds(&log).await, values(&log, 3).await), ((3, 4), names(3..4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_survives_a_restart_and_never_goes_back() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..6).await;
    for (before, start) in [(-1, 0), (0, 0), (4, 4), (2, 4), (4, 4)] {
        log.truncate_before(UPLINK, 0, before).await.expect("truncated");
        assert_eq!(bounds(&log).await, (start, 6), "before {before}");
    }
    log.close().await;
    let log = open(root.path()).await;
    assert_eq!(bounds(&log).await, (4, 6));
    let gone = log.read(UPLINK, 0, 3, ALL).await.expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::OutOfRange);
    assert!(gone.to_string().contains("holds 4 to 6, asked for 3"), "{gone}");
    assert!(log.truncate_before(UPLINK, 1, 0).await.is_err(), "there is no such partition");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_outside_the_bounds_are_errors_at_both_ends() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..2).await;
    for outside in [i64::MIN, -1, 3, i64::MAX] {
        let error = log.read(UPLINK, 0, outside, ALL).await.expect_err("outside");
        assert_eq!(error.kind(), ErrorKind::OutOfRange, "{outside}");
    }
    let end = log.read(UPLINK, 0, 2, ALL).await.expect("the end is inside");
    assert_eq!(end, Batch { entries: Vec::new(), next: 2 });
    let error = log.read(UPLINK, 1, 0, ALL).await.expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::Setup);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_keeps_to_its_limits_across_segments_and_always_gets_on() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..6).await;
    let size = entry("0").size();
    for (records, bytes, want) in [
        (0, usize::MAX, 1),
        (usize::MAX, 0, 1),
        (1, usize::MAX, 1),
        (4, usize::MAX, 4),
        (usize::MAX, 3 * size, 3),
        (usize::MAX, 3 * size - 1, 2),
        (usize::MAX, usize::MAX, 5),
    ] {
        let limit = ReadLimit { records, bytes, ..ALL };
        let batch = log.read(UPLINK, 0, 1, limit).await.expect("read");
        assert_eq!((batch.entries.len(), batch.next), (want, 1 + want as i64), "{limit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_the_largest_size_is_taken_and_a_larger_one_takes_nothing_with_it() {
    let root = tempfile::tempdir().expect("dir");
    let largest = entry(vec![1_u8; 1000]);
    let limited = EmbeddedOptions { max_entry_bytes: largest.size(), ..options(root.path()) };
    let log = EmbeddedLog::open(limited).await.expect("a log");
    log.append(UPLINK, vec![(0, largest)]).await.expect("just small enough");
    let mixed = vec![(0, entry("small")), (0, entry(vec![1_u8; 1001]))];
    let error = log.append(UPLINK, mixed).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(bounds(&log).await, (0, 1), "all or nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_to_an_unknown_partition_stores_nothing() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    let mixed = vec![(0, entry("a")), (1, entry("b"))];
    let error = log.append(UPLINK, mixed).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert_eq!(bounds(&log).await, (0, 0));
    let error = log.set_cursor("c", UPLINK, 1, 5).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Setup);
}

/// It would wait for ever for more permits than there are.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_larger_than_all_that_may_wait_goes_through_and_gives_its_room_back() {
    let root = tempfile::tempdir().expect("dir");
    let small = EmbeddedOptions { max_pending_bytes: 100, ..options(root.path()) };
    let log = EmbeddedLog::open(small).await.expect("a log");
    for _ in 0..3 {
        log.append(UPLINK, vec![(0, entry(vec![7_u8; 5000]))]).await.expect("appended");
    }
    assert_eq!(bounds(&log).await, (0, 3));
    let all = Arc::clone(&log.pending_bytes).acquire_many_owned(100);
    let free = tokio::time::timeout(Duration::from_secs(20), all).await;
    assert!(free.is_ok(), "the room of an append is free after its answer");
}

/// A torn write is dropped at the next start, with everything behind it in the journal. So nothing may be
/// acknowledged behind a write that has failed.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_write_no_append_is_taken_until_the_log_is_opened_again() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..1).await;
    assert_eq!(*log.failed().borrow(), None);
    // The next append needs a new segment, whose folder can't be made.
    let (folders, aside) = (root.path().join("keyspaces"), root.path().join("moved"));
    std::fs::rename(&folders, &aside).expect("moved");
    std::fs::write(&folders, "not a folder").expect("written");
    let first = log.append(UPLINK, vec![(0, entry("1"))]).await.expect_err("no segment");
    assert_eq!(first.kind(), ErrorKind::Unavailable);
    std::fs::remove_file(&folders).expect("removed");
    std::fs::rename(&aside, &folders).expect("moved back");
    let second = log.append(UPLINK, vec![(0, entry("2"))]).await.expect_err("still refused");
    assert_eq!((second.kind(), second.to_string()), (ErrorKind::Unavailable, first.to_string()));
    assert_eq!(*log.failed().borrow(), Some(first.to_string()));
    assert_eq!(values(&log, 0).await, names(0..1), "reads go on");
    log.close().await;
    let log = open(root.path()).await;
    assert_eq!(append(&log, 1..2).await, 1);
}

/// It passes by itself once there is room again, so it must not count as a failed write.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_no_failed_write() {
    let root = tempfile::tempdir().expect("dir");
    let full = EmbeddedOptions { min_free_bytes: u64::MAX, ..options(root.path()) };
    let log = EmbeddedLog::open(full).await.expect("a log");
    let error = log.append(UPLINK, vec![(0, entry("a"))]).await.expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("log.min_free_mb"), "{error}");
    assert_eq!(*log.failed().borrow(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_belongs_to_the_one_process() {
    let root = tempfile::tempdir().expect("dir");
    let options = EmbeddedOptions { partitions: 3, ..options(root.path()) };
    let log = EmbeddedLog::open(options).await.expect("a log");
    let claim = log.claim("any").await.expect("a claim");
    assert_eq!(claim.owned().borrow().iter().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(*claim.trouble().borrow(), None);
}

/// More partitions after a restart hold nothing yet, and the old ones keep what they have.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_opened_with_more_partitions_keeps_its_records() {
    let root = tempfile::tempdir().expect("dir");
    let log = open(root.path()).await;
    append(&log, 0..2).await;
    log.close().await;
    let more = EmbeddedOptions { partitions: 2, ..options(root.path()) };
    let log = EmbeddedLog::open(more).await.expect("a log");
    assert_eq!(bounds(&log).await, (0, 2));
    assert_eq!(log.bounds(UPLINK, 1).await.expect("bounds"), Bounds { start: 0, end: 0 });
}

fn journal(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("dir").filter_map(|f| Some(f.ok()?.path()));
    files.filter(|p| p.extension().is_some_and(|e| e == "jnl")).max().expect("a journal")
}

/// The journal up to its last byte that is not zero: the file is allocated ahead.
fn written(folder: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(journal(folder)).expect("read");
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

/// Copies a folder but for its journals.
fn copy_without_journals(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("dir") {
        let path = file.expect("file").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_without_journals(&path, &target);
        } else if path.extension().is_none_or(|e| e != "jnl") {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

/// What a power cut leaves: the journal ends anywhere within the append that was under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_torn_anywhere_is_dropped_whole_and_alone() {
    let root = tempfile::tempdir().expect("dir");
    let of =
        |path: &Path| EmbeddedOptions { partitions: 2, segment_bytes: 1 << 20, ..options(path) };
    let whole_log = root.path().join("log");
    let log = EmbeddedLog::open(of(&whole_log)).await.expect("a log");
    let both = |n: &str| vec![(0, entry(format!("a{n}"))), (1, entry(format!("b{n}")))];
    for n in ["1", "2"] {
        log.append(UPLINK, both(n)).await.expect("appended");
    }
    let before = written(&whole_log).len();
    log.append(UPLINK, both("3")).await.expect("appended");
    let whole = written(&whole_log);
    assert!(whole.len() > before + 40, "{before} to {}", whole.len());
    // The second append may itself end in a few zeros.
    let cuts = (before + 8..whole.len()).step_by(23).chain([whole.len() - 1]);
    for (n, cut) in cuts.enumerate() {
        let torn = root.path().join(format!("torn-{n}"));
        copy_without_journals(&whole_log, &torn);
        let name = journal(&whole_log).file_name().expect("a name").to_owned();
        std::fs::write(torn.join(name), &whole[..cut]).expect("written");
        let log = EmbeddedLog::open(of(&torn)).await.expect("opens");
        for (partition, letter) in [(0, "a"), (1, "b")] {
            let batch = log.read(UPLINK, partition, 0, ALL).await.expect("read");
            let text = |entry: &Entry| String::from_utf8_lossy(&entry.value).into_owned();
            let held: Vec<(i64, String)> =
                batch.entries.iter().map(|(offset, entry)| (*offset, text(entry))).collect();
            let want = vec![(0, format!("{letter}1")), (1, format!("{letter}2"))];
            assert_eq!(held, want, "cut at {cut} of {}", whole.len());
        }
        let at = log.append(UPLINK, both("4")).await.expect("it goes on");
        assert_eq!((at[0].offset, at[1].offset), (2, 2));
        log.close().await;
        std::fs::remove_dir_all(&torn).expect("removed");
    }
}
