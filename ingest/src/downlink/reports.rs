//! Brings up what became of commands, in batches, until the log has it.

use std::{sync::Arc, time::Duration};

use acuvim_log::{Entry, Log, LogTopic};
use acuvim_schemas::{
    Headers, Kind, Record,
    command::{Command, Delivery, Outcome},
    device::partition_of,
    topic,
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::intake::now;

/// Reports that wait for the log. One more is dropped and counted: its command then has no time of
/// sending, and its answer or timeout all the same.
const ROOM: usize = 4096;
const BATCH: usize = 500;

/// How long to wait before a log is asked again that is away.
const AWAY: Duration = Duration::from_millis(200);

/// Which command a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub device_id: String,
    pub request_id: Uuid,
    pub attempt: i64,
}

impl From<&Command> for Told {
    fn from(command: &Command) -> Self {
        Self {
            device_id: command.device_id.clone(),
            request_id: command.request_id,
            attempt: command.attempt,
        }
    }
}

/// Takes reports; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Reports(mpsc::Sender<Item>, Arc<str>);

/// What is brought up.
#[derive(Debug)]
enum Item {
    Report(Record),
    /// Whoever waits until everything before it is up.
    Flush(oneshot::Sender<()>),
}

impl Reports {
    pub(super) fn start(log: Arc<dyn Log>, prefix: String) -> Self {
        let (sender, reports) = mpsc::channel(ROOM);
        tokio::spawn(bring(log, reports));
        Self(sender, prefix.into())
    }

    /// Waits until everything said so far is up.
    pub async fn flush(&self) {
        let (flushed, done) = oneshot::channel();
        if self.0.send(Item::Flush(flushed)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Reports what became of a command; never waits.
    pub fn say(&self, told: &Told, outcome: Outcome) {
        let Told { device_id, request_id, attempt } = told;
        let delivery = Delivery { request_id: *request_id, attempt: *attempt, outcome };
        let Ok(value) = serde_json::to_vec(&delivery) else { return };
        let record = Record {
            key: Bytes::copy_from_slice(device_id.as_bytes()),
            value: Bytes::from(value),
            headers: Headers {
                kind: Kind::Sent,
                topic: Bytes::from(topic::command(&self.1, device_id)),
                received_at: now(),
                retained: false,
                reject: None,
                replay_of: None,
                resolved_ts: None,
            },
        };
        if self.0.try_send(Item::Report(record)).is_err() {
            metrics::counter!("acuvim_command_reports_dropped_total").increment(1);
        }
    }
}

/// Goes on until nobody reports any more.
async fn bring(log: Arc<dyn Log>, mut reports: mpsc::Receiver<Item>) {
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
            tokio::time::sleep(AWAY).await;
        }
        for flushed in waiting {
            let _ = flushed.send(());
        }
    }
}
