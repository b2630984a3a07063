//! The log: where a message is durable before its PUBACK, and what everything else is derived from.
//!
//! One trait, [`Log`], so that the embedded log and Kafka are exchanged by a setting. What a record
//! means is not this crate's matter: it moves [`Entry`] values, bytes with headers.

mod claim;
mod embedded;
mod entry;
mod error;
mod kafka;

use std::time::Duration;

use async_trait::async_trait;

pub use acuvim_schemas::record::{LogTopic, Position};
pub use claim::Claim;
pub use embedded::{EmbeddedLog, EmbeddedOptions, Retention};
pub use entry::{BadEntry, Entry};
pub use error::{Error, ErrorKind};
pub use kafka::{KafkaLog, KafkaOptions};

/// What a partition holds: offsets from `start` up to but not including `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest offset that can be read.
    pub start: i64,
    /// The offset that the next record gets.
    pub end: i64,
}

/// How much one read may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Records.
    pub records: usize,
    /// Bytes of keys, headers and values; one record is brought even if it is larger.
    pub bytes: usize,
    /// How long to wait for the first record at the partition's end.
    pub wait: Duration,
}

/// Records of one partition in offset order, without gaps on the embedded log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Offset and entry.
    pub entries: Vec<(i64, Entry)>,
    /// Where the next read begins: behind everything seen, also where compaction or control
    /// records left offsets out.
    pub next: i64,
}

/// An append-only log of partitioned topics.
#[async_trait]
pub trait Log: Send + Sync + std::fmt::Debug {
    /// How many partitions every topic has.
    fn partitions(&self) -> u32;

    /// Appends entries, each to its partition, and answers with their positions, in order, once
    /// all of them would survive `kill -9` and a power cut. Entries for one partition keep their
    /// order. If it fails, any of them may still be there.
    async fn append(
        &self,
        topic: LogTopic,
        entries: Vec<(u32, Entry)>,
    ) -> Result<Vec<Position>, Error>;

    /// Reads from an offset; empty if nothing came within the wait. An offset outside the bounds
    /// is [`ErrorKind::OutOfRange`], never a silent jump.
    async fn read(
        &self,
        topic: LogTopic,
        partition: u32,
        from: i64,
        limit: ReadLimit,
    ) -> Result<Batch, Error>;

    /// What a partition holds now.
    async fn bounds(&self, topic: LogTopic, partition: u32) -> Result<Bounds, Error>;

    /// The place that a reader or sink of this name has noted.
    async fn cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
    ) -> Result<Option<i64>, Error>;

    /// Notes a place, durably: the next offset that the named reader or sink has yet to get.
    async fn set_cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error>;

    /// Gives up everything before an offset. The disk frees as far as whole segments allow.
    async fn truncate_before(
        &self,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error>;

    /// Claims a share of the uplink's partitions, together with all others of the group.
    async fn claim(&self, group: &str) -> Result<Claim, Error>;
}
