//! The embedded log through the conformance suite, and what only it has.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use acuvim_log::{Bounds, EmbeddedLog, EmbeddedOptions, ErrorKind, Log, LogTopic, Retention};

use crate::conformance::{NO_WAIT, entry, suite};

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let root = tempfile::tempdir().expect("dir");
    let next = std::sync::atomic::AtomicU32::new(0);
    suite(|| {
        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let options = EmbeddedOptions::at(root.path().join(n.to_string()));
        async { Arc::new(EmbeddedLog::open(options).await.expect("open")) as Arc<dyn Log> }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn is_as_it_was_after_a_clean_end() {
    let root = tempfile::tempdir().expect("dir");
    for round in 0..3 {
        let log = EmbeddedLog::open(EmbeddedOptions::at(root.path())).await.expect("open");
        let at = log.append(LogTopic::Uplink, vec![(1, entry("d", "v"))]).await.expect("append");
        assert_eq!(at[0].offset, round);
        log.set_cursor("c", LogTopic::Uplink, 1, round).await.expect("cursor");
        log.close().await;
    }
    let log = EmbeddedLog::open(EmbeddedOptions::at(root.path())).await.expect("open");
    assert_eq!(log.cursor("c", LogTopic::Uplink, 1).await.expect("cursor"), Some(2));
    let got = log.read(LogTopic::Uplink, 1, 0, NO_WAIT).await.expect("read");
    assert_eq!(got.entries.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_version_file_is_moved_aside_whole() {
    let root = tempfile::tempdir().expect("dir");
    let path = root.path().join("log");
    let log = EmbeddedLog::open(EmbeddedOptions::at(&path)).await.expect("open");
    log.append(LogTopic::Uplink, vec![(1, entry("d", "v"))]).await.expect("append");
    let id = log.id().to_owned();
    log.close().await;
    let again = EmbeddedLog::open(EmbeddedOptions::at(&path)).await.expect("open");
    assert_eq!(again.id(), id, "it keeps its id");
    again.close().await;
    let version = std::fs::read(path.join("version")).expect("fjall's file");
    std::fs::remove_file(path.join("version")).expect("removed");
    // Journals are numbered on: the first is gone from a log that has been used for long.
    std::fs::rename(path.join("0.jnl"), path.join("7.jnl")).expect("renamed");
    let new = EmbeddedLog::open(EmbeddedOptions::at(&path)).await.expect("a new log");
    assert_eq!(new.bounds(LogTopic::Uplink, 1).await.expect("bounds").end, 0);
    assert_ne!(new.id(), id, "nobody takes it for the old one");
    new.close().await;
    // What was acknowledged is there for whoever puts the file back.
    let aside = root.path().join("log.aside-1");
    std::fs::rename(aside.join("7.jnl"), aside.join("0.jnl")).expect("renamed");
    std::fs::write(aside.join("version"), version).expect("put back");
    let old = EmbeddedLog::open(EmbeddedOptions::at(&aside)).await.expect("the old log");
    assert_eq!(old.read(LogTopic::Uplink, 1, 0, NO_WAIT).await.expect("read").entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn is_for_one_process() {
    let root = tempfile::tempdir().expect("dir");
    let _first = EmbeddedLog::open(EmbeddedOptions::at(root.path())).await.expect("open");
    let second = EmbeddedLog::open(EmbeddedOptions::at(root.path())).await.expect_err("locked");
    assert_eq!(second.kind(), ErrorKind::Setup);
    assert!(second.to_string().contains("in use by another process"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_stops_appends_and_not_reads() {
    let root = tempfile::tempdir().expect("dir");
    let log = EmbeddedLog::open(EmbeddedOptions::at(root.path())).await.expect("open");
    log.append(LogTopic::Uplink, vec![(0, entry("d", "v"))]).await.expect("append");
    log.close().await;
    let full = EmbeddedOptions { min_free_bytes: u64::MAX, ..EmbeddedOptions::at(root.path()) };
    let log = EmbeddedLog::open(full).await.expect("open");
    let error = log.append(LogTopic::Uplink, vec![(0, entry("d", "w"))]).await.expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let got = log.read(LogTopic::Uplink, 0, 0, NO_WAIT).await.expect("read");
    assert_eq!(got.entries.len(), 1);
}

/// Many small segments in partition 0: 30 appends of 1 MiB with a limit of 4 MiB.
async fn segmented(root: &std::path::Path) -> EmbeddedLog {
    let options = EmbeddedOptions { segment_bytes: 4 << 20, ..EmbeddedOptions::at(root) };
    let log = EmbeddedLog::open(options).await.expect("open");
    for i in 0..30_u8 {
        let noise: Vec<u8> =
            (0..1_u32 << 20).map(|x| (x.wrapping_mul(2_654_435_761) >> 7) as u8 ^ i).collect();
        log.append(LogTopic::Uplink, vec![(0, entry("d", noise))]).await.expect("append");
    }
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_frees_disk_and_never_passes_a_sink() {
    let root = tempfile::tempdir().expect("dir");
    let log = segmented(root.path()).await;
    let nothing = Retention { max_age: Duration::from_secs(86_400), max_bytes: u64::MAX };
    let all = Retention { max_age: Duration::ZERO, max_bytes: 0 };
    let now = SystemTime::now() + Duration::from_secs(1);
    let start =
        async |log: &EmbeddedLog| log.bounds(LogTopic::Uplink, 0).await.expect("bounds").start;
    assert_eq!(log.retain(now, all).await.expect("no sink yet: nothing goes"), 0);
    log.set_cursor("lake", LogTopic::Uplink, 0, 14).await.expect("cursor");
    assert_eq!(log.retain(now, all).await.expect("control has said nothing yet"), 0);
    log.set_cursor("control", LogTopic::Uplink, 0, 9).await.expect("cursor");
    assert_eq!(log.retain(now, nothing).await.expect("young and small"), 0);
    let freed = log.retain(now, all).await.expect("retain");
    assert_eq!(start(&log).await, 9, "never passes the slowest sink");
    assert!(freed >= 8 << 20, "{freed}");
    log.set_cursor("lake", LogTopic::Uplink, 0, 30).await.expect("cursor");
    log.set_cursor("control", LogTopic::Uplink, 0, 30).await.expect("cursor");
    let before = log.disk_space().expect("disk");
    log.retain(now, Retention { max_bytes: 9 << 20, ..nothing }).await.expect("retain");
    assert_eq!(start(&log).await, 20, "two closed segments of 4 MiB fit in 9 MiB");
    log.retain(now, all).await.expect("retain");
    assert_eq!(start(&log).await, 28, "the active segment stays");
    log.close().await;
    // What sealed journals still held goes with a new start.
    let log = EmbeddedLog::open(EmbeddedOptions::at(root.path())).await.expect("open");
    assert_eq!(
        log.bounds(LogTopic::Uplink, 0).await.expect("bounds"),
        Bounds { start: 28, end: 30 }
    );
    let after = log.disk_space().expect("disk");
    assert!(after < before, "{before} -> {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_cross_segments() {
    let root = tempfile::tempdir().expect("dir");
    let log = segmented(root.path()).await;
    let limit = acuvim_log::ReadLimit { bytes: 64 << 20, ..NO_WAIT };
    let got = log.read(LogTopic::Uplink, 0, 2, limit).await.expect("read");
    let offsets: Vec<_> = got.entries.iter().map(|(o, _)| *o).collect();
    assert_eq!(offsets, (2..30).collect::<Vec<_>>());
}
