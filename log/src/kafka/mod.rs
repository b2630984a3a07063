//! The log on Kafka, for several processes, machines and replicas.
//!
//! An append is durable when all in-sync replicas have it. The partition of a device is our own hash, so
//! that it is the same on either log. The sinks store their own offsets. A reader of a partition keeps its
//! consumer, positioned where the last read ended, so that reading on costs no seek.

mod claim;
mod client;
mod options;
mod reader;
mod topics;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use acuvim_wire::{
    entry::Entry,
    record::{LogTopic, Position},
};
use async_trait::async_trait;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::AdminClient,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{DeliveryFuture, FutureProducer, FutureRecord},
};
use tokio::task::spawn_blocking;

pub use options::KafkaOptions;

use crate::{
    batch::{Batch, Bounds, ReadLimit},
    claim::Claim,
    error::{Error, ErrorKind},
    log::Log,
};
use client::{Quiet, QuietConsumer, number, unavailable, watermarks};
use options::REQUEST_TIMEOUT;
use reader::Reader;

/// Idle readers that are kept open; beyond that the one that was unused for longest is closed.
const IDLE_READERS: usize = 128;

/// The log on a Kafka cluster.
pub struct KafkaLog {
    shared: Arc<Shared>,
    producer: RwLock<FutureProducer<Quiet>>,
}

struct Shared {
    options: KafkaOptions,
    admin: AdminClient<Quiet>,
    idle: Mutex<Vec<Reader>>,
    /// One consumer per cursor name: its committed offsets are the cursor.
    cursors: Mutex<HashMap<String, Arc<QuietConsumer>>>,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("brokers", &self.shared.options.brokers).finish()
    }
}

impl KafkaLog {
    /// Connects, creates missing topics, and checks the settings of existing ones.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the brokers do not answer, [`ErrorKind::Setup`] when they refuse the
    /// login or a topic is set up so that records could be lost.
    pub async fn open(options: KafkaOptions) -> Result<Self, Error> {
        let admin = client::admin(&options)?;
        topics::prepare(&admin, &options).await?;
        let producer = RwLock::new(client::producer(&options)?);
        let shared = Shared { options, admin, idle: Mutex::default(), cursors: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), producer })
    }

    /// The id of the cluster, which does not depend on the names of its brokers.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the brokers do not answer.
    pub async fn cluster(&self) -> Result<String, Error> {
        let shared = Arc::clone(&self.shared);
        let id =
            spawn_blocking(move || shared.admin.inner().fetch_cluster_id(REQUEST_TIMEOUT)).await;
        id.map_err(ended)?.ok_or_else(|| Error::unavailable("Kafka (cluster id): no answer"))
    }

    /// Deletes the topics of this epoch, so that appends of a process that still uses them are refused.
    ///
    /// # Errors
    /// When the brokers do not answer or refuse it.
    pub async fn delete_topics(&self) -> Result<(), Error> {
        topics::delete(&self.shared.admin, &self.shared.options).await
    }

    fn producer(&self) -> FutureProducer<Quiet> {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands an entry to the producer; waits while its queue is full.
    async fn enqueue(
        &self,
        producer: &FutureProducer<Quiet>,
        topic: &str,
        partition: u32,
        entry: &Entry,
    ) -> Result<DeliveryFuture, Error> {
        let headers = entry.headers.iter().fold(OwnedHeaders::new(), |all, (name, value)| {
            let key = std::str::from_utf8(name).unwrap_or_default();
            all.insert(Header { key, value: Some(value.as_ref()) })
        });
        let mut record = FutureRecord::to(topic)
            .partition(number(partition))
            .key(entry.key.as_ref())
            .payload(entry.value.as_ref())
            .headers(headers);
        loop {
            match producer.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    // The queue drains as fast as the brokers answer; the caller is held up for as long,
                    // which slows devices down.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err((error, _)) => return Err(self.produce_error(&error)),
            }
        }
    }

    fn produce_error(&self, error: &KafkaError) -> Error {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                Error::new(ErrorKind::Refused, "Kafka takes no entry of this size")
            }
            Some(RDKafkaErrorCode::Fatal) => {
                // An idempotent producer never recovers from a fatal error, so the next append gets a
                // new one.
                if let Ok(fresh) = client::producer(&self.shared.options) {
                    *self.producer.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                }
                unavailable("append", error)
            }
            _ => unavailable("append", error),
        }
    }

    fn refuse_too_large(&self, entries: &[(u32, Entry)]) -> Result<(), Error> {
        let limit = self.shared.options.max_entry_bytes;
        match entries.iter().map(|(_, e)| e.size()).max() {
            Some(size) if size > limit => Err(Error::too_large(size, limit)),
            _ => Ok(()),
        }
    }

    fn check_partition(&self, partition: u32) -> Result<(), Error> {
        if partition < self.shared.options.partitions {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Setup, format!("the log has no partition {partition}")))
    }
}

impl Shared {
    /// The idle reader that is positioned at this offset, or a new one.
    fn reader(&self, topic: LogTopic, partition: u32, from: i64) -> Result<Reader, Error> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|r| r.is_at(topic, partition, from));
        if let Some(at) = at {
            return Ok(idle.remove(at));
        }
        // A reader at another offset of the partition was usually abandoned, and is closed.
        let left = idle.iter().position(|r| r.reads(topic, partition));
        let left = left.map(|at| idle.remove(at));
        drop(idle);
        drop(left);
        let name = self.options.topic(topic);
        Reader::open(&self.options, topic, &name, partition, from)
    }

    fn put_back(&self, reader: Reader) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (idle.len() >= IDLE_READERS).then(|| idle.remove(0));
        idle.push(reader);
        drop(idle);
        drop(oldest);
    }

    fn read(
        &self,
        topic: LogTopic,
        partition: u32,
        from: i64,
        limit: ReadLimit,
    ) -> Result<Batch, Error> {
        // After an error the reader is dropped and not put back: its position is not known any more.
        let mut reader = self.reader(topic, partition, from)?;
        let batch = reader.read(limit)?;
        self.put_back(reader);
        Ok(batch)
    }

    fn bounds(&self, topic: LogTopic, partition: u32) -> Result<Bounds, Error> {
        let name = self.options.topic(topic);
        watermarks(self.admin.inner(), &name, partition)
    }

    fn cursor_consumer(&self, name: &str) -> Result<Arc<QuietConsumer>, Error> {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(consumer) = cursors.get(name) {
            return Ok(Arc::clone(consumer));
        }
        let consumer =
            client::consumer(&self.options, &self.options.named(&format!("cursor.{name}")))?;
        Ok(Arc::clone(cursors.entry(name.to_owned()).or_insert(Arc::new(consumer))))
    }

    fn offset_list(
        &self,
        topic: LogTopic,
        partition: u32,
        at: Offset,
    ) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.options.topic(topic), number(partition), at)
            .map_err(|e| unavailable("offset", &e))?;
        Ok(list)
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn partitions(&self) -> u32 {
        self.shared.options.partitions
    }

    async fn append(
        &self,
        topic: LogTopic,
        entries: Vec<(u32, Entry)>,
    ) -> Result<Vec<Position>, Error> {
        self.refuse_too_large(&entries)?;
        // Before anything is handed over: an early return would leave deliveries that nobody awaits.
        for (partition, _) in &entries {
            self.check_partition(*partition)?;
        }
        let (producer, name) = (self.producer(), self.shared.options.topic(topic));
        let mut deliveries = Vec::with_capacity(entries.len());
        let mut failed = None;
        for (partition, entry) in &entries {
            match self.enqueue(&producer, &name, *partition, entry).await {
                Ok(delivery) => deliveries.push((*partition, delivery)),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // All deliveries are awaited, also after an error: a retry must not overtake them.
        let mut positions = Vec::with_capacity(deliveries.len());
        for (partition, delivery) in deliveries {
            match delivery.await {
                Ok(Ok(at)) => positions.push(Position { partition, offset: at.offset }),
                Ok(Err((error, _))) => failed = failed.or(Some(self.produce_error(&error))),
                Err(_) => failed = failed.or(Some(Error::unavailable("the log is stopping"))),
            }
        }
        failed.map_or(Ok(positions), Err)
    }

    async fn read(
        &self,
        topic: LogTopic,
        partition: u32,
        from: i64,
        limit: ReadLimit,
    ) -> Result<Batch, Error> {
        self.check_partition(partition)?;
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || shared.read(topic, partition, from, limit)).await.map_err(ended)?
    }

    async fn bounds(&self, topic: LogTopic, partition: u32) -> Result<Bounds, Error> {
        self.check_partition(partition)?;
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || shared.bounds(topic, partition)).await.map_err(ended)?
    }

    async fn cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
    ) -> Result<Option<i64>, Error> {
        self.check_partition(partition)?;
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        spawn_blocking(move || {
            let consumer = shared.cursor_consumer(&name)?;
            let list = shared.offset_list(topic, partition, Offset::Invalid)?;
            let committed = consumer
                .committed_offsets(list, REQUEST_TIMEOUT)
                .map_err(|e| unavailable("cursor", &e))?;
            Ok(committed.elements().first().and_then(|at| match at.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            }))
        })
        .await
        .map_err(ended)?
    }

    async fn set_cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error> {
        self.check_partition(partition)?;
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        spawn_blocking(move || {
            let consumer = shared.cursor_consumer(&name)?;
            let list = shared.offset_list(topic, partition, Offset::Offset(offset))?;
            consumer.commit(&list, CommitMode::Sync).map_err(|e| unavailable("cursor", &e))
        })
        .await
        .map_err(ended)?
    }

    async fn truncate_before(
        &self,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error> {
        let bounds = self.bounds(topic, partition).await?;
        if offset <= bounds.start {
            return Ok(());
        }
        // Kafka refuses an offset beyond the end, where the embedded log drops everything.
        let upto = Offset::Offset(offset.min(bounds.end));
        topics::truncate(&self.shared.admin, self.shared.offset_list(topic, partition, upto)?).await
    }

    async fn claim(&self, group: &str) -> Result<Claim, Error> {
        claim::join(&self.shared.options, group)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn ended(error: tokio::task::JoinError) -> Error {
    Error::unavailable(format!("the log is stopping: {error}"))
}

#[cfg(test)]
mod tests;
