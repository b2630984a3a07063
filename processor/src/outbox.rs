//! Delivers the outbox, in the order of its numbers: commands and events into the log, events also
//! into the lake, a few seconds' worth at a time. A row is dropped only once it was delivered, so
//! after a crash it may be delivered again, under the same number, which readers know.

use std::time::Duration;

use acuvim_control::{Lease, OUTBOX_LEASE, Outgoing};
use acuvim_log::{Entry, LogTopic};
use acuvim_schemas::device::partition_of;
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Parts, state::StateSender};

/// How long the lease is held without being renewed, and how often it is.
const LEASE: TimeDelta = TimeDelta::seconds(15);
const RENEWED: TimeDelta = TimeDelta::seconds(5);

/// How often rows are looked for that other processes put in.
const LOOK: Duration = Duration::from_millis(100);

/// How long to wait while a component is away, or while another process delivers.
const AWAY: Duration = Duration::from_secs(1);

/// Events that one commit to the lake has at most.
const LAKE_PAGE: i64 = 20_000;

/// Delivers until the end; several processes take turns. Events go to the lake as often as readings,
/// beside the log: a store that is slow holds up no command.
pub(crate) async fn run(
    parts: Parts,
    state: StateSender,
    lake_interval: Duration,
    stop: CancellationToken,
) {
    let holder = uuid::Uuid::new_v4().to_string();
    let (ours, watched) = watch::channel(false);
    let log = async {
        let mut turn = None;
        loop {
            match work(&parts, &state, &holder, &mut turn, &ours).await {
                Trouble::NotOurs => {
                    state.outbox(None);
                    turn = None;
                }
                Trouble::Away(reason) => state.outbox(Some(reason)),
            }
            ours.send_replace(false);
            tokio::time::sleep(AWAY).await;
        }
    };
    let lake = async {
        loop {
            tokio::time::sleep(lake_interval).await;
            // The lease need not be looked at again: a number that the tables have is passed over,
            // whoever delivers it.
            if *watched.borrow()
                && let Err(error) = into_lake(&parts).await
            {
                tracing::debug!(%error, "events wait for the lake");
            }
        }
    };
    let work = async { tokio::join!(log, lake) };
    let _: Option<((), ())> = stop.run_until_cancelled(Box::pin(work)).await;
    // What is left another delivers, or the next start.
    let _ = parts.control.drop_lease(OUTBOX_LEASE, &holder, Utc::now()).await;
}

enum Trouble {
    /// Another process delivers.
    NotOurs,
    /// A component can't be reached.
    Away(String),
}

impl From<acuvim_control::Error> for Trouble {
    fn from(error: acuvim_control::Error) -> Self {
        Self::Away(error.to_string())
    }
}

/// Holds the lease and delivers as long as all goes well.
async fn work(
    parts: &Parts,
    state: &StateSender,
    holder: &str,
    turn: &mut Option<Lease>,
    ours: &watch::Sender<bool>,
) -> Trouble {
    let watch = parts.control.outbox_watch();
    let mut delivered = None;
    loop {
        match step(parts, holder, turn, delivered).await {
            Ok(next) => {
                delivered = next;
                state.outbox(None);
                ours.send_replace(true);
                if delivered.is_none() {
                    watch.changed(LOOK).await;
                }
            }
            Err(trouble) => return trouble,
        }
    }
}

/// Delivers what there is; answers with its last number, to be dropped by the next step.
async fn step(
    parts: &Parts,
    holder: &str,
    turn: &mut Option<Lease>,
    delivered: Option<i64>,
) -> Result<Option<i64>, Trouble> {
    let lease = hold(parts, holder, turn).await?;
    if delivered.is_none() && !parts.control.outbox_has_rows().await? {
        return Ok(None);
    }
    let next = parts.control.next_of_outbox(lease, holder, delivered, Utc::now());
    let outgoing = next.await?.ok_or(Trouble::NotOurs)?;
    let last = outgoing.last().map(Outgoing::seq);
    append(parts, outgoing).await?;
    Ok(last)
}

/// Delivers what the log has and the lake has not.
async fn into_lake(parts: &Parts) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    loop {
        let events = parts.control.events_for_lake(LAKE_PAGE).await?;
        let Some((last, _)) = events.last() else { return Ok(()) };
        parts.lake.deliver(&events).await?;
        parts.control.drop_events(*last).await?;
        if i64::try_from(events.len()).unwrap_or(0) < LAKE_PAGE {
            return Ok(());
        }
    }
}

async fn hold(parts: &Parts, holder: &str, turn: &mut Option<Lease>) -> Result<Lease, Trouble> {
    let now = Utc::now();
    match turn {
        Some(lease) if lease.until - now > LEASE - RENEWED => Ok(*lease),
        _ => {
            let held = parts.control.hold_lease(OUTBOX_LEASE, holder, now, LEASE).await?;
            *turn = held;
            held.ok_or(Trouble::NotOurs)
        }
    }
}

async fn append(parts: &Parts, outgoing: Vec<Outgoing>) -> Result<(), Trouble> {
    let partitions = parts.log.partitions();
    let (mut commands, mut events) = (Vec::new(), Vec::new());
    for one in outgoing {
        match one {
            Outgoing::Command(command) => {
                let partition = partition_of(command.device_id.as_bytes(), partitions);
                commands.push((partition, Entry::from(command)));
            }
            Outgoing::Event { seq, event, body } => {
                let device = event.device_id().unwrap_or_default().to_owned();
                let headers = event.to_pairs(seq).into_iter();
                let headers = headers.map(|(n, v)| (Bytes::from_static(n.as_bytes()), v)).collect();
                let partition = partition_of(device.as_bytes(), partitions);
                events.push((partition, Entry { key: Bytes::from(device), value: body, headers }));
            }
        }
    }
    for (topic, name, entries) in [
        (LogTopic::Commands, "acuvim_commands_delivered_total", commands),
        (LogTopic::Events, "acuvim_events_delivered_total", events),
    ] {
        if entries.is_empty() {
            continue;
        }
        let count = entries.len() as u64;
        let appended = parts.log.append(topic, entries).await;
        appended.map_err(|error| Trouble::Away(error.to_string()))?;
        metrics::counter!(name).increment(count);
    }
    Ok(())
}
