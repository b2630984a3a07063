//! What every log must do. Each check takes topics of a fresh log of four partitions.

use std::{sync::Arc, time::Duration};

use acuvim_log::{Batch, Bounds, Entry, ErrorKind, Log, LogTopic, Position, ReadLimit};
use bytes::Bytes;

pub const NO_WAIT: ReadLimit = ReadLimit { records: 1000, bytes: 8 << 20, wait: Duration::ZERO };
const TOPIC: LogTopic = LogTopic::Uplink;

/// Reads as every reader does: a log that is away for a moment is asked again.
async fn read(
    log: &dyn Log,
    topic: LogTopic,
    partition: u32,
    from: i64,
    limit: ReadLimit,
) -> Batch {
    for _ in 0..400 {
        match log.read(topic, partition, from, limit).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            read => return read.expect("read"),
        }
    }
    panic!("the log stays away")
}

pub fn entry(key: &str, value: impl Into<Bytes>) -> Entry {
    let headers = vec![(Bytes::from_static(b"kind"), Bytes::from_static(b"telemetry"))];
    Entry { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), headers }
}

/// Runs every check on a log that `fresh` makes.
pub async fn suite<F, L>(fresh: F)
where
    F: Fn() -> L,
    L: Future<Output = Arc<dyn Log>>,
{
    order_and_positions(&*fresh().await).await;
    reads_are_bounded(&*fresh().await).await;
    a_read_waits_for_what_comes(fresh().await).await;
    offsets_outside_are_told(&*fresh().await).await;
    concurrent_appends_lose_nothing(fresh().await).await;
    cursors_are_kept(&*fresh().await).await;
    truncation_hides_what_is_before(&*fresh().await).await;
    too_large_is_refused_alone(&*fresh().await).await;
    topics_are_apart(&*fresh().await).await;
}

async fn values(log: &dyn Log, partition: u32, from: i64) -> Vec<(i64, Bytes)> {
    let batch = read(log, TOPIC, partition, from, NO_WAIT).await;
    batch.entries.into_iter().map(|(o, e)| (o, e.value)).collect()
}

async fn order_and_positions(log: &dyn Log) {
    assert_eq!(log.partitions(), 4);
    let batch = (0..10).map(|i| (i % 4, entry("d", format!("v{i}")))).collect();
    let at = log.append(TOPIC, batch).await.expect("append");
    let want: Vec<_> =
        (0..10).map(|i| Position { partition: i % 4, offset: i64::from(i / 4) }).collect();
    assert_eq!(at, want);
    let got = read(log, TOPIC, 1, 0, NO_WAIT).await;
    assert_eq!(got.next, 3);
    let got: Vec<_> = got.entries;
    assert_eq!(got, [(0, entry("d", "v1")), (1, entry("d", "v5")), (2, entry("d", "v9"))]);
    assert_eq!(log.append(TOPIC, Vec::new()).await.expect("nothing"), []);
}

async fn reads_are_bounded(log: &dyn Log) {
    let batch = (0..100).map(|i| (0, entry("d", vec![i; 1000]))).collect();
    log.append(TOPIC, batch).await.expect("append");
    let few = read(log, TOPIC, 0, 7, ReadLimit { records: 3, ..NO_WAIT }).await;
    assert_eq!((few.entries.len(), few.next), (3, 10));
    let small = read(log, TOPIC, 0, 7, ReadLimit { bytes: 2500, ..NO_WAIT }).await;
    assert_eq!((small.entries.len(), small.next), (2, 9));
    let one = read(log, TOPIC, 0, 99, ReadLimit { bytes: 1, ..NO_WAIT }).await;
    assert_eq!((one.entries.len(), one.next), (1, 100));
}

async fn a_read_waits_for_what_comes(log: Arc<dyn Log>) {
    let limit = ReadLimit { wait: Duration::from_secs(20), ..NO_WAIT };
    let reader = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.read(TOPIC, 2, 0, limit).await }
    });
    tokio::task::yield_now().await;
    log.append(TOPIC, vec![(2, entry("d", "late"))]).await.expect("append");
    let got = reader.await.expect("task").expect("read");
    assert_eq!(got.entries, [(0, entry("d", "late"))]);
    let short = ReadLimit { wait: Duration::from_millis(5), ..NO_WAIT };
    let nothing = read(log.as_ref(), TOPIC, 2, 1, short).await;
    assert_eq!((nothing.entries.len(), nothing.next), (0, 1));
}

async fn offsets_outside_are_told(log: &dyn Log) {
    log.append(TOPIC, vec![(0, entry("d", "a"))]).await.expect("append");
    for outside in [-1, 2, 1000] {
        let error = log.read(TOPIC, 0, outside, NO_WAIT).await.expect_err("outside");
        assert_eq!(error.kind(), ErrorKind::OutOfRange, "{outside}: {error}");
    }
    assert!(values(log, 0, 1).await.is_empty());
    assert_eq!(log.bounds(TOPIC, 0).await.expect("bounds"), Bounds { start: 0, end: 1 });
    assert_eq!(log.bounds(TOPIC, 3).await.expect("bounds"), Bounds { start: 0, end: 0 });
    assert!(log.bounds(TOPIC, 4).await.is_err());
}

async fn concurrent_appends_lose_nothing(log: Arc<dyn Log>) {
    let writers: Vec<_> = (0..20)
        .map(|w| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let mut at = Vec::new();
                for i in 0..20 {
                    let value = format!("{w}/{i}");
                    let got = log.append(TOPIC, vec![(w % 4, entry("d", value.clone()))]).await;
                    at.push((got.expect("append")[0], value));
                }
                at
            })
        })
        .collect();
    let mut said = Vec::new();
    for writer in writers {
        said.extend(writer.await.expect("writer"));
    }
    let mut held = Vec::new();
    for partition in 0..4 {
        let got = values(&*log, partition, 0).await;
        held.extend(got.into_iter().map(|(offset, value)| {
            (Position { partition, offset }, String::from_utf8(value.to_vec()).expect("text"))
        }));
    }
    said.sort();
    assert_eq!(said, held);
}

async fn cursors_are_kept(log: &dyn Log) {
    assert_eq!(log.cursor("a", TOPIC, 0).await.expect("none"), None);
    log.set_cursor("a", TOPIC, 0, 5).await.expect("set");
    log.set_cursor("a", TOPIC, 1, 6).await.expect("set");
    log.set_cursor("b", TOPIC, 0, 7).await.expect("set");
    log.set_cursor("a", TOPIC, 0, 8).await.expect("set");
    for (name, partition, want) in [("a", 0, 8), ("a", 1, 6), ("b", 0, 7)] {
        assert_eq!(log.cursor(name, TOPIC, partition).await.expect("cursor"), Some(want));
    }
}

async fn truncation_hides_what_is_before(log: &dyn Log) {
    let batch = (0..10).map(|i| (0, entry("d", format!("{i}")))).collect();
    log.append(TOPIC, batch).await.expect("append");
    log.truncate_before(TOPIC, 0, 4).await.expect("truncate");
    log.truncate_before(TOPIC, 0, 2).await.expect("never back");
    assert_eq!(log.bounds(TOPIC, 0).await.expect("bounds"), Bounds { start: 4, end: 10 });
    let gone = log.read(TOPIC, 0, 3, NO_WAIT).await.expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::OutOfRange);
    assert_eq!(values(log, 0, 4).await.len(), 6);
    let at = log.append(TOPIC, vec![(0, entry("d", "x"))]).await.expect("append");
    assert_eq!(at[0].offset, 10);
}

async fn too_large_is_refused_alone(log: &dyn Log) {
    let huge = entry("d", vec![0_u8; 5 << 20]);
    let error = log.append(TOPIC, vec![(0, huge)]).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Refused);
    log.append(TOPIC, vec![(0, entry("d", vec![1_u8; 1 << 20]))]).await.expect("large is fine");
    assert_eq!(values(log, 0, 0).await.len(), 1);
}

async fn topics_are_apart(log: &dyn Log) {
    log.append(LogTopic::Commands, vec![(0, entry("d", "c"))]).await.expect("append");
    log.append(LogTopic::Events, vec![(0, entry("d", "e"))]).await.expect("append");
    assert!(values(log, 0, 0).await.is_empty());
    let got = read(log, LogTopic::Events, 0, 0, NO_WAIT).await;
    assert_eq!(got.entries, [(0, entry("d", "e"))]);
}
