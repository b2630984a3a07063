//! Which partitions are this process's: shared out among all that claim them, by Kafka's group
//! protocol. Being in the group fences nobody: what an old owner still writes is refused by the
//! compare-and-set on the sinks' offsets.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
};
use tokio::sync::watch;

use super::{
    KafkaOptions,
    client::{away, member, setup},
};
use crate::{Claim, Error, ErrorKind, LogTopic};

/// How long the member's thread waits for the next change.
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
            // A member reads nothing itself.
            if let Err(error) = consumer.pause(new) {
                tracing::debug!(%error, "an assigned partition was not paused");
            }
            self.owned.send_modify(|owned| owned.extend(numbers(new)));
        }
    }
}

fn numbers(list: &TopicPartitionList) -> BTreeSet<u32> {
    list.elements().iter().filter_map(|e| u32::try_from(e.partition()).ok()).collect()
}

/// Joins a group over the uplink's partitions; leaves it when the claim is dropped.
pub(super) fn join(options: &KafkaOptions, group: &str) -> Result<Claim, Error> {
    let (owned, watch) = watch::channel(BTreeSet::new());
    let consumer: BaseConsumer<Member> =
        member(options, group).create_with_context(Member { owned }).map_err(|e| setup(&e))?;
    consumer.subscribe(&[&options.topic(LogTopic::Uplink)]).map_err(|e| away("claim", &e))?;
    let left = Arc::new(AtomicBool::new(false));
    let leaving = Arc::clone(&left);
    std::thread::Builder::new()
        .name("log-claim".to_owned())
        .spawn(move || {
            while !leaving.load(Ordering::Acquire) {
                if let Some(Err(error)) = consumer.poll(POLL) {
                    tracing::debug!(%error, "the claim on partitions waits");
                    std::thread::sleep(POLL);
                }
            }
            // Dropping the consumer leaves the group, so that others take over at once.
        })
        .map_err(|e| Error::new(ErrorKind::Setup, format!("can't start a thread: {e}")))?;
    Ok(Claim::new(watch, Box::new(move || left.store(true, Ordering::Release))))
}
