//! A log in memory for unit tests, which fails when it is told to.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use acuvim_log::{
    Batch, Bounds, Claim, Entry, Error, ErrorKind, Log, LogTopic, Position, ReadLimit,
};
use acuvim_wire::Record;
use tokio::sync::Notify;

/// What happens to the next append.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    /// It fails with this kind.
    Kind(ErrorKind),
    /// It never returns.
    Hangs,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<(LogTopic, u32), Vec<Entry>>,
    /// Dropped from the start of each partition.
    starts: HashMap<(LogTopic, u32), i64>,
    cursors: HashMap<(String, LogTopic, u32), i64>,
    failures: VecDeque<Failure>,
    /// Values over this size are refused.
    largest: Option<usize>,
    appends: usize,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryLog {
    state: Mutex<State>,
    appended: Notify,
}

impl MemoryLog {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("unpoisoned")
    }

    /// The next appends fail like this, in order; the ones after them succeed.
    pub fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.state().failures.extend(failures);
    }

    /// Appends succeed from now on.
    pub fn clear_failures(&self) {
        self.state().failures.clear();
    }

    pub fn refuse_over(&self, bytes: usize) {
        self.state().largest = Some(bytes);
    }

    /// How often an append was tried.
    pub fn appends(&self) -> usize {
        self.state().appends
    }

    /// Drops entries without moving the offsets, as retention does.
    pub fn drop_before(&self, topic: LogTopic, partition: u32, offset: i64) {
        self.state().starts.insert((topic, partition), offset);
    }

    /// The records of the uplink, partition by partition.
    pub fn records(&self) -> Vec<Record> {
        let state = self.state();
        (0..self.partitions())
            .flat_map(|partition| state.entries.get(&(LogTopic::Uplink, partition)))
            .flatten()
            .map(|entry| Record::try_from(entry).expect("a record"))
            .collect()
    }
}

#[async_trait::async_trait]
impl Log for MemoryLog {
    fn partitions(&self) -> u32 {
        2
    }

    async fn append(
        &self,
        topic: LogTopic,
        entries: Vec<(u32, Entry)>,
    ) -> Result<Vec<Position>, Error> {
        let failure = {
            let mut state = self.state();
            state.appends += 1;
            state.failures.pop_front()
        };
        match failure {
            Some(Failure::Kind(kind)) => return Err(Error::new(kind, "as the test wants it")),
            Some(Failure::Hangs) => std::future::pending().await,
            None => {}
        }
        let mut state = self.state();
        if entries.iter().any(|(_, e)| state.largest.is_some_and(|most| e.value.len() > most)) {
            return Err(Error::new(ErrorKind::Refused, "too large for the test's log"));
        }
        let mut positions = Vec::new();
        for (partition, entry) in entries {
            let held = state.entries.entry((topic, partition)).or_default();
            let offset = i64::try_from(held.len()).expect("few");
            positions.push(Position { partition, offset });
            held.push(entry);
        }
        drop(state);
        self.appended.notify_waiters();
        Ok(positions)
    }

    async fn read(
        &self,
        topic: LogTopic,
        partition: u32,
        from: i64,
        limit: ReadLimit,
    ) -> Result<Batch, Error> {
        let appended = self.appended.notified();
        let bounds = self.bounds(topic, partition).await?;
        if from < bounds.start || from > bounds.end {
            return Err(Error::new(ErrorKind::OutOfRange, "outside"));
        }
        if from == bounds.end {
            let _ = tokio::time::timeout(limit.wait.min(Duration::from_millis(50)), appended).await;
        }
        let state = self.state();
        let held = state.entries.get(&(topic, partition)).map(Vec::as_slice).unwrap_or_default();
        let skip = usize::try_from(from).expect("not negative");
        let entries: Vec<_> =
            (from..).zip(held.iter().skip(skip).take(limit.records).cloned()).collect();
        let next = from + i64::try_from(entries.len()).expect("few");
        Ok(Batch { entries, next })
    }

    async fn bounds(&self, topic: LogTopic, partition: u32) -> Result<Bounds, Error> {
        let state = self.state();
        let end = state.entries.get(&(topic, partition)).map_or(0, Vec::len);
        let start = state.starts.get(&(topic, partition)).copied().unwrap_or(0);
        Ok(Bounds { start, end: i64::try_from(end).expect("few") })
    }

    async fn cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
    ) -> Result<Option<i64>, Error> {
        Ok(self.state().cursors.get(&(name.to_owned(), topic, partition)).copied())
    }

    async fn set_cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error> {
        self.state().cursors.insert((name.to_owned(), topic, partition), offset);
        Ok(())
    }

    async fn truncate_before(
        &self,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error> {
        self.drop_before(topic, partition, offset);
        Ok(())
    }

    async fn claim(&self, _group: &str) -> Result<Claim, Error> {
        Ok(Claim::of(0..self.partitions()))
    }
}
