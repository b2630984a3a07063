//! Pulses: regular records in every partition which say that ingest is listening. Without them the silence of
//! a device could not be told from an outage of ours.

use std::{sync::Arc, time::Duration};

use acuvim_log::{Entry, Log, LogTopic};
use acuvim_wire::{Headers, Kind, Record};
use bytes::Bytes;

use crate::clock::now;

/// The longest interval. The processor takes several missing pulses for an outage.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// The shortest interval, because each pulse is a record in every partition.
const SHORTEST: Duration = Duration::from_millis(500);

/// Appends a pulse every `interval` while `hears` returns true. Failures are only logged at debug
/// level: a log that is away affects readings as well, and is reported there.
pub(crate) async fn run(log: Arc<dyn Log>, interval: Duration, hears: impl Fn() -> bool + Send) {
    let interval = interval.clamp(SHORTEST, LONGEST);
    loop {
        if hears() {
            // In every partition, because a reader of one can't tell from another whether messages come in.
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use acuvim_log::ErrorKind;

    use super::*;
    use crate::memory_log::{Failure, MemoryLog};

    /// Runs the pulse until it has asked so many times whether it hears devices.
    async fn beats(
        log: &Arc<MemoryLog>,
        times: usize,
        hears: impl Fn(usize) -> bool + Send + Sync,
    ) {
        let asked = AtomicUsize::new(0);
        let run = run(Arc::clone(log) as _, Duration::ZERO, || {
            hears(asked.fetch_add(1, Ordering::Relaxed))
        });
        let done = async {
            while asked.load(Ordering::Relaxed) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = run => {}
            () = done => {}
        }
    }

    #[tokio::test]
    async fn every_partition_gets_a_pulse_while_devices_are_heard() {
        let log = MemoryLog::new();
        beats(&log, 3, |time| time != 1).await;
        let kinds: Vec<Kind> = log.records().iter().map(|r| r.headers.kind).collect();
        assert_eq!(kinds, [Kind::Pulse; 4], "two pulses in two partitions, and a gap between");
    }

    #[tokio::test]
    async fn pulses_come_at_the_interval() {
        let log = MemoryLog::new();
        let pulses = run(Arc::clone(&log) as _, Duration::from_secs(1), || true);
        let waited = tokio::time::timeout(Duration::from_millis(2500), pulses).await;
        assert!(waited.is_err(), "it goes on");
        let records = log.records().len();
        assert!(
            (4..=6).contains(&records),
            "{records} in two partitions and two and a half seconds"
        );
    }

    #[tokio::test]
    async fn a_pulse_that_is_not_stored_does_not_end_it() {
        let log = MemoryLog::new();
        log.fail([Failure::Kind(ErrorKind::Unavailable)]);
        beats(&log, 2, |_| true).await;
        assert_eq!(log.records().len(), 2, "the second one");
    }
}
