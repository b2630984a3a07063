//! Says in every partition, now and then, that somebody hears devices: without that, silence would be
//! theirs when it is ours.

use std::{sync::Arc, time::Duration};

use acuvim_log::{Entry, Log, LogTopic};
use acuvim_schemas::{Headers, Kind, Record};
use bytes::Bytes;

use crate::intake::now;

/// How often at the least. Whoever reads takes several missed ones for a break.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// How often at the most: each is a record in every partition.
const SHORTEST: Duration = Duration::from_millis(500);

/// Says so every `interval`, as long as `hears` is true. A log that does not take it is in trouble with readings too,
/// and they say it.
pub(crate) async fn run(log: Arc<dyn Log>, interval: Duration, hears: impl Fn() -> bool + Send) {
    let interval = interval.clamp(SHORTEST, LONGEST);
    loop {
        if hears() {
            let entries = (0..log.partitions()).map(|partition| (partition, pulse())).collect();
            if let Err(error) = log.append(LogTopic::Uplink, entries).await {
                tracing::debug!(%error, "a pulse was not stored");
            }
        }
        tokio::time::sleep(interval).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_log::{EmbeddedLog, EmbeddedOptions};

    #[tokio::test]
    async fn it_beats_as_often_as_it_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = EmbeddedOptions { min_free_bytes: 0, ..EmbeddedOptions::at(dir.path()) };
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(options).await.expect("a log"));
        let beats = run(Arc::clone(&log), Duration::from_secs(1), || true);
        let waited = tokio::time::timeout(Duration::from_millis(2500), beats).await;
        assert!(waited.is_err(), "it goes on");
        let end = log.bounds(LogTopic::Uplink, 0).await.expect("bounds").end;
        assert!((2..=3).contains(&end), "{end} pulses in two and a half seconds");
    }
}
