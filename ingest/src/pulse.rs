//! Says in every partition, now and then, that somebody hears devices: without that, silence would be
//! theirs when it is ours.

use std::{sync::Arc, time::Duration};

use acuvim_log::{Entry, Log, LogTopic};
use acuvim_schemas::{Headers, Kind, Record};
use bytes::Bytes;

use crate::intake::now;

/// How often. Whoever reads takes several missed ones for a break.
const INTERVAL: Duration = Duration::from_secs(10);

/// Says so as long as `hears` is true. A log that does not take it is in trouble with readings too,
/// and they say it.
pub(crate) async fn run(log: Arc<dyn Log>, hears: impl Fn() -> bool + Send) {
    loop {
        if hears() {
            let entries = (0..log.partitions()).map(|partition| (partition, pulse())).collect();
            if let Err(error) = log.append(LogTopic::Uplink, entries).await {
                tracing::debug!(%error, "a pulse was not stored");
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn pulse() -> Entry {
    Entry::from(Record {
        key: Bytes::new(),
        value: Bytes::new(),
        headers: Headers {
            kind: Kind::Pulse,
            topic: Bytes::new(),
            received_at: now(),
            retained: false,
            reject: None,
            replay_of: None,
            resolved_ts: None,
        },
    })
}
