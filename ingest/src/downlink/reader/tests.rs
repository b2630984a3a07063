//! The reader against a log in memory.

use std::sync::atomic::{AtomicI64, Ordering};

use acuvim_log::Entry;
use acuvim_wire::time::{MINUTE, SECOND};
use bytes::Bytes;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::memory_log::{Failure, MemoryLog};

fn entry(seq: i64, expires_at: i64) -> Entry {
    Entry::from(Command {
        request_id: Uuid::from_u128(7),
        device_id: "d1".into(),
        payload: Bytes::new(),
        expires_at,
        attempt: 1,
        outbox_seq: seq,
    })
}

async fn append(log: &MemoryLog, seqs: &[i64]) {
    let entries = seqs.iter().map(|seq| (0, entry(*seq, now() + MINUTE))).collect();
    log.append(LogTopic::Commands, entries).await.expect("appended");
}

/// A running reader of partition 0, and its commands.
struct Running {
    log: Arc<MemoryLog>,
    commands: mpsc::Receiver<Command>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(log: &Arc<MemoryLog>, cursor: Option<i64>) -> Self {
        if let Some(cursor) = cursor {
            log.set_cursor("c", LogTopic::Commands, 0, cursor).await.expect("set");
        }
        let downlink = Downlink {
            log: Arc::clone(log) as _,
            cursor: "c".into(),
            alone: true,
            topic_prefix: "acuvim".into(),
            held_until: None,
        };
        let (sender, commands) = mpsc::channel(16);
        let task = tokio::spawn(Reader::new(&downlink, 0, sender).run());
        Self { log: Arc::clone(log), commands, task }
    }

    async fn seqs(&mut self, count: usize) -> Vec<i64> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            let next = tokio::time::timeout(Duration::from_secs(20), self.commands.recv()).await;
            seqs.push(next.expect("in time").expect("a command").outbox_seq);
        }
        seqs
    }

    async fn cursor(&self) -> Option<i64> {
        self.log.cursor("c", LogTopic::Commands, 0).await.expect("a cursor")
    }

    /// Ends the reader, as a crash would. It reads nothing any more once this returns.
    async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test]
async fn the_outbox_may_deliver_twice_and_the_device_gets_it_once() {
    let log = MemoryLog::new();
    append(&log, &[1, 2, 1, 2, 3]).await;
    let mut reader = Running::start(&log, Some(0)).await;
    assert_eq!(reader.seqs(3).await, [1, 2, 3]);
}

#[tokio::test]
async fn expired_and_unreadable_commands_are_skipped() {
    let log = MemoryLog::new();
    let entries = vec![(0, entry(1, now() - SECOND)), (0, Entry::default())];
    log.append(LogTopic::Commands, entries).await.expect("appended");
    append(&log, &[2]).await;
    let mut reader = Running::start(&log, Some(0)).await;
    assert_eq!(reader.seqs(1).await, [2]);
}

/// The cursor is committed first: a crash loses commands, and never repeats one.
#[tokio::test]
async fn after_a_crash_no_command_comes_again() {
    let log = MemoryLog::new();
    append(&log, &[1, 2]).await;
    let mut reader = Running::start(&log, Some(0)).await;
    assert_eq!(reader.seqs(1).await, [1]);
    assert_eq!(reader.cursor().await, Some(2), "before the second one was handed out");
    reader.crash().await;
    append(&log, &[2, 3]).await;
    let mut reader = Running::start(&log, None).await;
    assert_eq!(reader.seqs(1).await, [3], "2 is known from the entries before the cursor");
}

#[tokio::test]
async fn a_new_reader_starts_at_the_end() {
    let log = MemoryLog::new();
    append(&log, &[1, 2]).await;
    let mut reader = Running::start(&log, None).await;
    let started = async {
        while reader.cursor().await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), started).await.expect("it starts in time");
    append(&log, &[3]).await;
    assert_eq!(reader.seqs(1).await, [3]);
}

#[tokio::test]
async fn commands_that_retention_has_dropped_are_passed_over() {
    let log = MemoryLog::new();
    append(&log, &[1, 2, 3]).await;
    let mut reader = Running::start(&log, Some(3)).await;
    append(&log, &[4]).await;
    assert_eq!(reader.seqs(1).await, [4]);
    reader.crash().await;
    log.set_cursor("c", LogTopic::Commands, 0, 0).await.expect("set");
    log.drop_before(LogTopic::Commands, 0, 4);
    append(&log, &[5]).await;
    let mut reader = Running::start(&log, None).await;
    assert_eq!(reader.seqs(1).await, [5]);
}

/// Another process may hold the lease: two bridges must never both publish.
#[tokio::test]
async fn without_the_lease_nothing_is_read_and_the_cursor_stays() {
    let log = MemoryLog::new();
    append(&log, &[1]).await;
    let held_until = Arc::new(AtomicI64::new(0));
    let downlink = Downlink {
        log: Arc::clone(&log) as _,
        cursor: "c".into(),
        alone: false,
        topic_prefix: "acuvim".into(),
        held_until: Some(Arc::clone(&held_until)),
    };
    let (sender, mut commands) = mpsc::channel(16);
    log.set_cursor("c", LogTopic::Commands, 0, 0).await.expect("set");
    tokio::spawn(Reader::new(&downlink, 0, sender).run());
    let early = tokio::time::timeout(Duration::from_millis(100), commands.recv()).await;
    assert!(early.is_err() && !downlink.is_held());
    assert_eq!(log.cursor("c", LogTopic::Commands, 0).await.expect("read"), Some(0));
    held_until.store(now() + MINUTE, Ordering::Relaxed);
    let command = tokio::time::timeout(Duration::from_secs(20), commands.recv()).await;
    assert_eq!(command.expect("in time").expect("a command").outbox_seq, 1);
}

#[tokio::test]
async fn reports_are_in_the_log_after_a_flush_whatever_the_log_does() {
    use acuvim_wire::{
        Kind,
        command::{Delivery, Outcome},
    };

    let log = MemoryLog::new();
    log.fail([Failure::Kind(ErrorKind::Unavailable); 3]);
    let reports = crate::downlink::Reports::start(Arc::clone(&log) as _, "acuvim".into());
    let command = Command::try_from(&entry(1, 0)).expect("a command");
    for outcome in [Outcome::NoSubscriber, Outcome::Sent] {
        reports.report(&(&command).into(), outcome);
    }
    reports.flush().await;
    let records = log.records();
    let outcomes: Vec<Outcome> = records
        .iter()
        .map(|record| serde_json::from_slice::<Delivery>(&record.value).expect("JSON").outcome)
        .collect();
    assert_eq!(outcomes, [Outcome::NoSubscriber, Outcome::Sent]);
    assert!(records.iter().all(|r| r.headers.kind == Kind::Sent && r.key.as_ref() == b"d1"));
    assert_eq!(records[0].headers.topic.as_ref(), b"acuvim/d1/cmd");
}
