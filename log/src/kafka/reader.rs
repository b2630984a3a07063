//! A consumer positioned at one offset of one partition.

use std::time::{Duration, Instant};

use acuvim_wire::{entry::Entry, record::LogTopic};
use bytes::Bytes;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    client::{QuietConsumer, consumer, number, unavailable, watermarks},
    options::{KafkaOptions, REQUEST_TIMEOUT},
};
use crate::{
    batch::{Batch, Bounds, ReadLimit},
    error::Error,
};

pub(super) struct Reader {
    consumer: QuietConsumer,
    topic: LogTopic,
    name: String,
    partition: u32,
    /// Where the next read begins.
    next: i64,
    /// Received, but over the limit of the last read.
    held: Option<(i64, Entry)>,
    /// Whether the consumer has reached the end of the partition.
    at_end: bool,
}

impl Reader {
    /// A reader that begins at an offset, which must be within the partition's bounds.
    pub fn open(
        options: &KafkaOptions,
        topic: LogTopic,
        name: &str,
        partition: u32,
        from: i64,
    ) -> Result<Self, Error> {
        let consumer = consumer(options, &options.named("reader"))?;
        let mut reader = Self {
            consumer,
            topic,
            name: name.to_owned(),
            partition,
            next: from,
            held: None,
            at_end: false,
        };
        let bounds = reader.bounds()?;
        if from < bounds.start || from > bounds.end {
            return Err(reader.out_of_range(bounds));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, number(partition), Offset::Offset(from))
            .and_then(|()| reader.consumer.assign(&list))
            .map_err(|e| unavailable("read", &e))?;
        // Otherwise the first read would wait for an event of the partition's end, although nothing is to come.
        reader.at_end = from == bounds.end;
        Ok(reader)
    }

    pub fn reads(&self, topic: LogTopic, partition: u32) -> bool {
        (self.topic, self.partition) == (topic, partition)
    }

    pub fn is_at(&self, topic: LogTopic, partition: u32, at: i64) -> bool {
        self.reads(topic, partition) && self.next == at
    }

    /// Reads what is there, within the limit; at the end of the partition it waits as long as the limit says.
    pub fn read(&mut self, limit: ReadLimit) -> Result<Batch, Error> {
        let mut batch = Batch { entries: Vec::new(), next: self.next };
        let begun = Instant::now();
        // A caller that does not wait wants everything that is there now, however long the brokers take to
        // send it.
        let until = if limit.wait.is_zero() { Some(self.bounds()?.end) } else { None };
        let mut bytes = 0;
        loop {
            if let Some((offset, entry)) = self.held.take() {
                let full =
                    batch.entries.len() >= limit.records || bytes + entry.size() > limit.bytes;
                if full && !batch.entries.is_empty() {
                    self.held = Some((offset, entry));
                    break;
                }
                bytes += entry.size();
                batch.next = offset + 1;
                batch.entries.push((offset, entry));
            }
            let enough = until.map_or(!batch.entries.is_empty(), |end| batch.next >= end);
            let Some(wait) = self.wait(begun, limit.wait, enough, until.is_some())? else { break };
            self.poll(wait, &mut batch, enough)?;
            if enough && self.held.is_none() {
                break;
            }
        }
        self.next = batch.next;
        Ok(batch)
    }

    /// How long to wait for the next message; none if the read is complete.
    fn wait(
        &self,
        begun: Instant,
        wait: Duration,
        enough: bool,
        exactly: bool,
    ) -> Result<Option<Duration>, Error> {
        if enough {
            return Ok((!exactly).then_some(Duration::ZERO));
        }
        let passed = begun.elapsed();
        if self.at_end && !exactly {
            return Ok(wait.checked_sub(passed).filter(|left| !left.is_zero()));
        }
        match REQUEST_TIMEOUT.checked_sub(passed) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(Error::unavailable("Kafka (read): no answer")),
        }
    }

    /// Handles one event of the consumer: a message goes into `held`, the partition's end into `at_end`.
    fn poll(&mut self, wait: Duration, batch: &mut Batch, enough: bool) -> Result<(), Error> {
        match self.consumer.poll(wait) {
            Some(Ok(message)) => {
                self.at_end = false;
                // After a seek an older message may still arrive.
                if message.offset() >= batch.next {
                    self.held = Some((message.offset(), entry_of(&message)));
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => self.at_end = true,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    let bounds = self.bounds()?;
                    return Err(self.out_of_range(bounds));
                }
                // Usually one broker of several is gone: another one becomes the leader, and librdkafka
                // finds it.
                Some(
                    RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::Resolve,
                ) => {}
                // What was read so far is good; the next read meets the error if it lasts.
                _ if enough => {}
                _ => return Err(unavailable("read", &error)),
            },
            None => {}
        }
        Ok(())
    }

    fn bounds(&self) -> Result<Bounds, Error> {
        watermarks(self.consumer.client(), &self.name, self.partition)
    }

    fn out_of_range(&self, bounds: Bounds) -> Error {
        Error::out_of_range(&self.name, self.partition, bounds, self.next)
    }
}

/// Copies a message into one buffer that all parts of the entry share, so that it costs one allocation.
fn entry_of(message: &impl rdkafka::Message) -> Entry {
    use rdkafka::message::Headers as _;
    let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
    let headers = message.headers();
    let held: Vec<(&str, &[u8])> = headers
        .map(|h| h.iter().map(|h| (h.key, h.value.unwrap_or_default())).collect())
        .unwrap_or_default();
    let size: usize = held.iter().map(|(n, v)| n.len() + v.len()).sum();
    let mut all = Vec::with_capacity(size + key.len() + value.len());
    for part in held.iter().flat_map(|(n, v)| [n.as_bytes(), *v]).chain([key, value]) {
        all.extend_from_slice(part);
    }
    let mut all = Bytes::from(all);
    let headers =
        held.iter().map(|(n, v)| (all.split_to(n.len()), all.split_to(v.len()))).collect();
    Entry { headers, key: all.split_to(key.len()), value: all }
}

#[cfg(test)]
mod tests;
