//! Brings up what became of commands, in batches, until the log has it.

use std::{sync::Arc, time::Duration};

use acuvim_log::{Entry, Log, LogTopic};
use acuvim_schemas::{
    Headers, Kind, Record,
    command::{Delivery, Outcome},
    device::partition_of,
    topic,
};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::intake::now;

/// Reports that wait for the log. One more is dropped and counted: its command then has no time of
/// sending, and its answer or timeout all the same.
const ROOM: usize = 4096;
const BATCH: usize = 500;

/// How long to wait before a log is asked again that is away.
const AWAY: Duration = Duration::from_millis(200);

/// Takes reports; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Reports(mpsc::Sender<Record>, Arc<str>);

impl Reports {
    pub(super) fn start(log: Arc<dyn Log>, prefix: String, stop: CancellationToken) -> Self {
        let (sender, reports) = mpsc::channel(ROOM);
        tokio::spawn(bring(log, reports, stop));
        Self(sender, prefix.into())
    }

    /// Reports what became of a command; never waits.
    pub fn say(&self, device_id: &str, request_id: Uuid, outcome: Outcome) {
        let Ok(value) = serde_json::to_vec(&Delivery { request_id, outcome }) else { return };
        let record = Record {
            key: Bytes::copy_from_slice(device_id.as_bytes()),
            value: Bytes::from(value),
            headers: Headers {
                kind: Kind::Sent,
                topic: Bytes::from(topic::command(&self.1, device_id)),
                received_at: now(),
                retained: false,
                reject: None,
            },
        };
        if self.0.try_send(record).is_err() {
            metrics::counter!("acuvim_command_reports_dropped_total").increment(1);
        }
    }
}

/// Goes on until told to stop and done with what there is by then.
async fn bring(log: Arc<dyn Log>, mut reports: mpsc::Receiver<Record>, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        let got = tokio::select! {
            biased;
            got = reports.recv_many(&mut batch, BATCH) => got,
            () = stop.cancelled() => return,
        };
        if got == 0 {
            return;
        }
        let partitions = log.partitions();
        let place = |record: Record| (partition_of(&record.key, partitions), Entry::from(record));
        let entries: Vec<_> = batch.drain(..).map(place).collect();
        while log.append(LogTopic::Uplink, entries.clone()).await.is_err() {
            if stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(AWAY).await;
        }
    }
}
