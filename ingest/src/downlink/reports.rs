//! Reports on commands: appended to the uplink in batches, retried until the log has them.

use std::{sync::Arc, time::Duration};

use acuvim_log::{Entry, Log, LogTopic};
use acuvim_wire::{
    Headers, Kind, Record,
    command::{Command, Delivery, Outcome},
    device::partition_of,
    topic,
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::clock::now;

/// Reports that may wait for the log. Further ones are dropped and counted: such a command lacks the time of
/// sending, but still gets its response or timeout.
const QUEUE: usize = 4096;
const BATCH: usize = 500;

/// The pause before an append is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// The command that a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandRef {
    pub device_id: String,
    pub request_id: Uuid,
    pub attempt: i64,
}

impl From<&Command> for CommandRef {
    fn from(command: &Command) -> Self {
        Self {
            device_id: command.device_id.clone(),
            request_id: command.request_id,
            attempt: command.attempt,
        }
    }
}

/// The handle of the reporting task. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    queue: mpsc::Sender<Item>,
    topic_prefix: Arc<str>,
}

#[derive(Debug)]
enum Item {
    Report(Record),
    /// Answered once all reports before it are in the log.
    Flush(oneshot::Sender<()>),
}

impl Reports {
    pub(super) fn start(log: Arc<dyn Log>, topic_prefix: String) -> Self {
        let (queue, reports) = mpsc::channel(QUEUE);
        tokio::spawn(append_all(log, reports));
        Self { queue, topic_prefix: topic_prefix.into() }
    }

    /// Waits until all reports so far are in the log.
    pub async fn flush(&self) {
        let (flushed, done) = oneshot::channel();
        if self.queue.send(Item::Flush(flushed)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Reports what became of a command; never waits.
    pub fn report(&self, command: &CommandRef, outcome: Outcome) {
        let CommandRef { device_id, request_id, attempt } = command;
        let delivery = Delivery { request_id: *request_id, attempt: *attempt, outcome };
        let Ok(value) = serde_json::to_vec(&delivery) else { return };
        let record = Record {
            key: Bytes::copy_from_slice(device_id.as_bytes()),
            value: Bytes::from(value),
            headers: Headers {
                kind: Kind::Sent,
                topic: Bytes::from(topic::command(&self.topic_prefix, device_id)),
                received_at: now(),
                retained: false,
                reject: None,
                replay_of: None,
                resolved_ts: None,
            },
        };
        // Never waits, because it is called from the connections of devices.
        if self.queue.try_send(Item::Report(record)).is_err() {
            metrics::counter!("acuvim_command_reports_dropped_total").increment(1);
        }
    }
}

/// Runs until all handles are dropped.
async fn append_all(log: Arc<dyn Log>, mut reports: mpsc::Receiver<Item>) {
    let mut batch = Vec::new();
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        let (mut entries, mut waiting) = (Vec::new(), Vec::new());
        for item in batch.drain(..) {
            match item {
                Item::Report(record) => {
                    let partition = partition_of(&record.key, log.partitions());
                    entries.push((partition, Entry::from(record)));
                }
                Item::Flush(flushed) => waiting.push(flushed),
            }
        }
        while !entries.is_empty() && log.append(LogTopic::Uplink, entries.clone()).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        // After the append: a flush promises that everything before it is stored.
        for flushed in waiting {
            let _ = flushed.send(());
        }
    }
}
