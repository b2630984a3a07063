//! Partitions are shared out among processes by Kafka's consumer group protocol. Group membership fences
//! nobody: what a former owner still writes is refused by the compare-and-set on the sinks' offsets.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use acuvim_wire::record::LogTopic;
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
};
use tokio::sync::watch;

use super::{
    client::{member, setup, unavailable},
    options::KafkaOptions,
};
use crate::{
    claim::Claim,
    error::{Error, ErrorKind},
};

/// How long the thread waits for the next rebalance before it looks whether it should end.
const POLL: Duration = Duration::from_millis(200);

struct Member {
    owned: watch::Sender<BTreeSet<u32>>,
}

impl ClientContext for Member {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(gone) => {
                let gone = numbers(gone);
                self.owned.send_modify(|owned| owned.retain(|p| !gone.contains(p)));
            }
            Rebalance::Error(_) => self.owned.send_modify(BTreeSet::clear),
            Rebalance::Assign(_) => {}
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(new) = rebalance {
            // This consumer only holds the membership; other consumers read the records.
            if let Err(error) = consumer.pause(new) {
                tracing::debug!(%error, "an assigned partition was not paused");
            }
            self.owned.send_modify(|owned| owned.extend(numbers(new)));
        }
    }
}

/// Errors over time. A change of brokers causes some that pass by themselves, so only errors that last are
/// reported.
#[derive(Default)]
struct ErrorHistory {
    first: Option<Instant>,
    last: Option<(Instant, String)>,
}

impl ErrorHistory {
    /// Adds the result of one poll. Returns the error to report, if errors have lasted for long enough.
    fn add(&mut self, now: Instant, failed: Option<String>) -> Option<String> {
        if let Some(error) = failed {
            self.first.get_or_insert(now);
            self.last = Some((now, format!("no share of the partitions: {error}")));
        }
        let (at, error) = self.last.as_ref()?;
        // Longer than librdkafka pauses between two tries, so errors that go on are seen as one outage.
        if now.duration_since(*at) > Duration::from_secs(10) {
            *self = Self::default();
            return None;
        }
        // Longer than the restart of a broker, which is no reason to report anything.
        let long = self.first.is_some_and(|at| now.duration_since(at) > Duration::from_secs(30));
        long.then(|| error.clone())
    }
}

fn numbers(list: &TopicPartitionList) -> BTreeSet<u32> {
    list.elements().iter().filter_map(|e| u32::try_from(e.partition()).ok()).collect()
}

/// Joins a group that shares the uplink's partitions; leaves it when the claim is dropped.
pub(super) fn join(options: &KafkaOptions, group: &str) -> Result<Claim, Error> {
    let (owned, watch) = watch::channel(BTreeSet::new());
    let consumer: BaseConsumer<Member> = member(options, &options.named(group))
        .create_with_context(Member { owned })
        .map_err(|e| setup(&e))?;
    consumer
        .subscribe(&[&options.topic(LogTopic::Uplink)])
        .map_err(|e| unavailable("claim", &e))?;
    let (report, trouble) = watch::channel(None);
    let left = Arc::new(AtomicBool::new(false));
    let leaving = Arc::clone(&left);
    std::thread::Builder::new()
        .name("log-claim".to_owned())
        .spawn(move || {
            let mut errors = ErrorHistory::default();
            while !leaving.load(Ordering::Acquire) {
                let failed = match consumer.poll(POLL) {
                    Some(Err(error)) => {
                        // A failed poll returns at once; without a pause this thread would take a whole core.
                        std::thread::sleep(POLL);
                        Some(error.to_string())
                    }
                    Some(Ok(_)) | None => None,
                };
                let now = errors.add(Instant::now(), failed);
                report.send_if_modified(|reported| {
                    let changed = reported.is_some() != now.is_some();
                    if changed {
                        *reported = now;
                    }
                    changed
                });
            }
            // Dropping the consumer leaves the group, so that others take over at once.
        })
        .map_err(|e| {
            Error::new(ErrorKind::Setup, format!("can't start the thread of a claim: {e}"))
        })?;
    Ok(Claim::new(watch, trouble, Box::new(move || left.store(true, Ordering::Release))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_go_on_are_trouble_and_it_ends_with_them() {
        let (mut errors, start) = (ErrorHistory::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let error = || Some("no".to_owned());
        assert_eq!(errors.add(at(0), error()), None);
        assert_eq!(errors.add(at(20), None), None, "it passed");
        for s in (21..50).step_by(2) {
            assert_eq!(errors.add(at(s), error()), None);
        }
        assert!(errors.add(at(52), error()).is_some());
        assert!(errors.add(at(60), None).is_some());
        assert_eq!(errors.add(at(63), None), None);
    }
}
