//! The contract of a log. One suite (`tests/log/conformance.rs`) checks both implementations against it.

use acuvim_wire::{
    entry::Entry,
    record::{LogTopic, Position},
};
use async_trait::async_trait;

use crate::{
    batch::{Batch, Bounds, ReadLimit},
    claim::Claim,
    error::Error,
};

/// An append-only log of partitioned topics.
#[async_trait]
pub trait Log: Send + Sync + std::fmt::Debug {
    /// How many partitions every topic has.
    fn partitions(&self) -> u32;

    /// Appends entries, each to its partition, and returns their positions in the same order once all of
    /// them would survive `kill -9` and a power cut. Entries of one partition keep their order. After an
    /// error any of them may still have been stored.
    async fn append(
        &self,
        topic: LogTopic,
        entries: Vec<(u32, Entry)>,
    ) -> Result<Vec<Position>, Error>;

    /// Reads from an offset; the batch is empty if nothing came within the wait. An offset outside the
    /// bounds is [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange), never a silent jump: a reader must
    /// know that it has missed records.
    async fn read(
        &self,
        topic: LogTopic,
        partition: u32,
        from: i64,
        limit: ReadLimit,
    ) -> Result<Batch, Error>;

    /// What a partition holds now.
    async fn bounds(&self, topic: LogTopic, partition: u32) -> Result<Bounds, Error>;

    /// The offset that the reader or sink of this name has committed.
    async fn cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
    ) -> Result<Option<i64>, Error>;

    /// Commits, durably, the next offset that the named reader or sink has yet to get.
    async fn set_cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error>;

    /// Drops everything before an offset. Disk space is freed by whole segments, so some of it only later.
    async fn truncate_before(
        &self,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error>;

    /// Joins a group whose members share the uplink's partitions among them.
    async fn claim(&self, group: &str) -> Result<Claim, Error>;
}
