//! The embedded log: one process on one machine, stored in fjall.
//!
//! Group commit: appends that arrive while a sync is running share the next one. A partition is a series
//! of segments. Each segment is a keyspace of its own because fjall frees the disk space of a deleted
//! keyspace at once, but of a deleted range only at some later compaction.

mod layout;
mod options;
mod partition;
mod retention;
mod shared;
mod store;
mod writer;

use std::{sync::Arc, time::SystemTime};

use acuvim_wire::{
    entry::Entry,
    record::{LogTopic, Position},
};
use async_trait::async_trait;
use fjall::PersistMode;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
};

pub use options::{EmbeddedOptions, Retention};

use crate::{
    batch::{Batch, Bounds, ReadLimit},
    claim::Claim,
    error::Error,
    log::Log,
};
use shared::Shared;
use store::{disk, number};
use writer::Request;

/// A log in a folder of this machine, for one process.
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    pending_bytes: Arc<Semaphore>,
    failed: watch::Receiver<Option<String>>,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// Opens the log, or creates it. A write that a crash tore apart is dropped: it was never
    /// acknowledged.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`](crate::ErrorKind::Setup) when another process has it or the folder can't be
    /// written, [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when what is there can't be read.
    pub async fn open(options: EmbeddedOptions) -> Result<Self, Error> {
        let shared = spawn_blocking(move || Shared::open(options)).await.map_err(stopped)??;
        let shared = Arc::new(shared);
        let pending_bytes = Arc::new(Semaphore::new(shared.options.max_pending_bytes));
        // The bytes that wait are bounded by `pending_bytes`; this number only bounds the queue itself.
        let (requests, queue) = mpsc::channel(1024);
        let (failing, failed) = watch::channel(None);
        let writer = writer::start(Arc::clone(&shared), queue, failing)?;
        let writer = std::sync::Mutex::new(Some(writer));
        Ok(Self { shared, requests, pending_bytes, failed, writer })
    }

    /// The log's id, a random one from its creation: offsets stored elsewhere are only valid for the log
    /// with the same id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// The error of the first write that failed, if any. The log then refuses appends until it is opened
    /// again, because nobody can tell how much of the failed write is on the disk.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Drops closed segments that are too old, or too many, and that every sink has read. Returns the
    /// number of bytes freed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the disk fails.
    pub async fn retain(&self, now: SystemTime, keep: Retention) -> Result<u64, Error> {
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || retention::retain(&shared, now, keep)).await.map_err(stopped)?
    }

    /// Ends the writer thread once everything handed over is durable.
    pub async fn close(self) {
        // The thread ends when no sender is left, and has written everything that was queued by then.
        drop(self.requests);
        let writer = self.writer.lock().ok().and_then(|mut w| w.take());
        if let Some(writer) = writer {
            let _ = spawn_blocking(move || writer.join()).await;
        }
    }

    /// The bytes on disk, journals included.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the disk fails.
    pub fn disk_space(&self) -> Result<u64, Error> {
        self.shared.db.disk_space().map_err(disk)
    }

    /// The size of all entries; an error if one of them is larger than the log takes.
    fn size_of(&self, entries: &[(u32, Entry)]) -> Result<usize, Error> {
        let limit = self.shared.options.max_entry_bytes;
        match entries.iter().map(|(_, e)| e.size()).max() {
            Some(size) if size > limit => Err(Error::too_large(size, limit)),
            _ => Ok(entries.iter().map(|(_, e)| e.size()).sum()),
        }
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn partitions(&self) -> u32 {
        self.shared.options.partitions
    }

    async fn append(
        &self,
        topic: LogTopic,
        entries: Vec<(u32, Entry)>,
    ) -> Result<Vec<Position>, Error> {
        let bytes = self.size_of(&entries)?;
        // Checked here and not by the writer, where one wrong partition would fail all callers of its group.
        for (partition, _) in &entries {
            self.shared.partition(topic, *partition)?;
        }
        // More than all permits would wait for ever: one huge append takes the whole budget instead.
        let bytes = u32::try_from(bytes.min(self.shared.options.max_pending_bytes));
        let permit = Arc::clone(&self.pending_bytes)
            .acquire_many_owned(bytes.unwrap_or(u32::MAX))
            .await
            .map_err(stopped)?;
        let (reply, answer) = oneshot::channel();
        let request = Request { topic, entries, reply, _permit: permit };
        self.requests.send(request).await.map_err(stopped)?;
        answer.await.map_err(stopped)?
    }

    async fn read(
        &self,
        topic: LogTopic,
        partition: u32,
        from: i64,
        limit: ReadLimit,
    ) -> Result<Batch, Error> {
        let mut end = self.shared.partition(topic, partition)?.end();
        // Waits outside of the blocking threads, so that any number of idle readers takes none.
        if *end.borrow_and_update() <= from && !limit.wait.is_zero() {
            let _ = tokio::time::timeout(limit.wait, end.wait_for(|end| *end > from)).await;
        }
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || shared.partition(topic, partition)?.read(from, limit))
            .await
            .map_err(stopped)?
    }

    async fn bounds(&self, topic: LogTopic, partition: u32) -> Result<Bounds, Error> {
        self.shared.partition(topic, partition)?.bounds()
    }

    async fn cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
    ) -> Result<Option<i64>, Error> {
        let (shared, key) = (Arc::clone(&self.shared), cursor_key(name, topic, partition));
        spawn_blocking(move || number(&shared.meta, &key)).await.map_err(stopped)?
    }

    async fn set_cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error> {
        self.shared.partition(topic, partition)?;
        let (shared, key) = (Arc::clone(&self.shared), cursor_key(name, topic, partition));
        spawn_blocking(move || {
            let mut batch = shared.db.batch().durability(Some(PersistMode::SyncData));
            // Synced, because retention drops records by it: a cursor that went back would point to nothing.
            batch.insert(&shared.meta, key.as_bytes(), offset.to_be_bytes());
            batch.commit().map_err(disk)
        })
        .await
        .map_err(stopped)?
    }

    async fn truncate_before(
        &self,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || {
            let partition = shared.partition(topic, partition)?;
            partition.truncate_before(&shared.db, &shared.meta, offset).map(|_| ())
        })
        .await
        .map_err(stopped)?
    }

    /// All partitions at once: no other process can open this log.
    async fn claim(&self, _group: &str) -> Result<Claim, Error> {
        Ok(Claim::of(0..self.shared.options.partitions))
    }
}

fn cursor_key(name: &str, topic: LogTopic, partition: u32) -> String {
    format!("cursor/{}/{partition}/{name}", topic.name())
}

fn stopped<E>(_: E) -> Error {
    Error::unavailable("the log is stopping")
}

#[cfg(test)]
mod tests;
