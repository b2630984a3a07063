//! Delivers the outbox in the order of its numbers: commands and events to the log, events also to
//! the lake, several seconds' worth in one commit. A row is deleted only after it was delivered, so
//! a crash may deliver it again, under the same number; readers skip numbers that they have seen.

use std::time::Duration;

use acuvim_control::Outgoing;
use acuvim_log::{Entry, LogTopic};
use acuvim_wire::device::partition_of;
use chrono::Utc;
use tokio::sync::watch;

use super::lease::JobLease;
use crate::{dependencies::Dependencies, state::StateSender};

/// How often rows are looked for that other processes have added.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long to wait while a component is away, or while another process delivers.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most events of one commit to the lake.
const LAKE_PAGE: i64 = 20_000;

/// Delivers while the lease is held. The lake gets the events as often as it gets readings, and
/// beside the log: a slow store must not hold up commands.
pub(super) async fn run(
    dependencies: Dependencies,
    state: StateSender,
    lake_interval: Duration,
    mut lease: JobLease,
) {
    let (held_sender, held) = watch::channel(false);
    let to_log = async {
        loop {
            match deliver_to_log(&dependencies, &state, &mut lease, &held_sender).await {
                Stop::LeaseLost => {
                    state.outbox(None);
                    lease.forget();
                }
                Stop::Unavailable(reason) => state.outbox(Some(reason)),
            }
            // The lake gets no events while another process may deliver them.
            held_sender.send_replace(false);
            tokio::time::sleep(RETRY_AFTER).await;
        }
    };
    let to_lake = async {
        loop {
            tokio::time::sleep(lake_interval).await;
            // The lease need not be checked again: the tables skip a number that they have already,
            // so two processes that deliver the same event store it once.
            if *held.borrow()
                && let Err(error) = deliver_to_lake(&dependencies).await
            {
                tracing::debug!(%error, "events could not be delivered to the lake yet");
            }
        }
    };
    let _: ((), ()) = tokio::join!(to_log, to_lake);
}

/// Why a delivery stopped.
enum Stop {
    LeaseLost,
    Unavailable(String),
}

impl From<acuvim_control::Error> for Stop {
    fn from(error: acuvim_control::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Delivers to the log until the lease is lost or a component is away.
async fn deliver_to_log(
    dependencies: &Dependencies,
    state: &StateSender,
    lease: &mut JobLease,
    held: &watch::Sender<bool>,
) -> Stop {
    let watch = dependencies.control.outbox_watch();
    let mut delivered = None;
    loop {
        match deliver_page(dependencies, lease, delivered).await {
            Ok(next) => {
                delivered = next;
                state.outbox(None);
                held.send_replace(true);
                // A full page is followed by the next one at once.
                if delivered.is_none() {
                    watch.changed(POLL_INTERVAL).await;
                }
            }
            Err(stop) => return stop,
        }
    }
}

/// Delivers the next rows and returns the last number among them. The next call deletes them: by
/// then the log has them.
async fn deliver_page(
    dependencies: &Dependencies,
    lease: &mut JobLease,
    delivered: Option<i64>,
) -> Result<Option<i64>, Stop> {
    let held = lease.hold().await?.ok_or(Stop::LeaseLost)?;
    let control = &dependencies.control;
    if delivered.is_none() && !control.outbox_has_rows().await? {
        return Ok(None);
    }
    let next = control.next_of_outbox(held, lease.holder(), delivered, Utc::now());
    let outgoing = next.await?.ok_or(Stop::LeaseLost)?;
    // Taken before the append consumes them, and returned only if it succeeds.
    let last = outgoing.last().map(Outgoing::seq);
    append(dependencies, outgoing).await?;
    Ok(last)
}

/// Delivers the events that the log has and the lake has not.
async fn deliver_to_lake(
    dependencies: &Dependencies,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    loop {
        let events = dependencies.control.events_for_lake(LAKE_PAGE).await?;
        let Some((last, _)) = events.last() else { return Ok(()) };
        dependencies.lake.deliver(&events).await?;
        dependencies.control.drop_events(*last).await?;
        if i64::try_from(events.len()).unwrap_or(0) < LAKE_PAGE {
            return Ok(());
        }
    }
}

async fn append(dependencies: &Dependencies, outgoing: Vec<Outgoing>) -> Result<(), Stop> {
    let partitions = dependencies.log.partitions();
    let (mut commands, mut events) = (Vec::new(), Vec::new());
    for one in outgoing {
        match one {
            Outgoing::Command(command) => {
                let partition = partition_of(command.device_id.as_bytes(), partitions);
                commands.push((partition, Entry::from(command)));
            }
            Outgoing::Event { seq, event, body } => {
                let device = event.device_id().unwrap_or_default().to_owned();
                let partition = partition_of(device.as_bytes(), partitions);
                events.push((partition, event.to_entry(seq, body)));
            }
        }
    }
    for (topic, metric, entries) in [
        (LogTopic::Commands, "acuvim_commands_delivered_total", commands),
        (LogTopic::Events, "acuvim_events_delivered_total", events),
    ] {
        if entries.is_empty() {
            continue;
        }
        let count = entries.len() as u64;
        let appended = dependencies.log.append(topic, entries).await;
        appended.map_err(|error| Stop::Unavailable(error.to_string()))?;
        metrics::counter!(metric).increment(count);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
