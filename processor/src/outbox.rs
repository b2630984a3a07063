//! Delivers the outbox into the log, in the order of its numbers. A row is dropped only once it was
//! delivered, so after a crash it may be delivered again, under the same number, which readers know.

use std::time::Duration;

use acuvim_control::{Lease, OUTBOX_LEASE};
use acuvim_log::{Entry, LogTopic};
use acuvim_schemas::{command::Command, device::partition_of};
use chrono::{TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::{Parts, state::StateSender};

/// How long the lease is held without being renewed, and how often it is.
const LEASE: TimeDelta = TimeDelta::seconds(15);
const RENEWED: TimeDelta = TimeDelta::seconds(5);

/// How often rows are looked for that other processes put in.
const LOOK: Duration = Duration::from_millis(100);

/// How long to wait while a component is away, or while another process delivers.
const AWAY: Duration = Duration::from_secs(1);

/// Delivers until the end; several processes take turns.
pub(crate) async fn run(parts: Parts, state: StateSender, stop: CancellationToken) {
    let holder = uuid::Uuid::new_v4().to_string();
    let work = async {
        let mut turn = None;
        loop {
            match work(&parts, &state, &holder, &mut turn).await {
                Trouble::NotOurs => {
                    state.outbox(None);
                    turn = None;
                }
                Trouble::Away(reason) => state.outbox(Some(reason)),
            }
            tokio::time::sleep(AWAY).await;
        }
    };
    stop.run_until_cancelled(Box::pin(work)).await;
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
) -> Trouble {
    let watch = parts.control.outbox_watch();
    let mut delivered = None;
    loop {
        match step(parts, holder, turn, delivered).await {
            Ok(next) => {
                delivered = next;
                state.outbox(None);
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
    let commands = next.await?.ok_or(Trouble::NotOurs)?;
    let last = commands.last().map(|command| command.outbox_seq);
    append(parts, commands).await?;
    Ok(last)
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

async fn append(parts: &Parts, commands: Vec<Command>) -> Result<(), Trouble> {
    if commands.is_empty() {
        return Ok(());
    }
    let partitions = parts.log.partitions();
    let place = |command: Command| {
        let partition = partition_of(command.device_id.as_bytes(), partitions);
        (partition, Entry::from(command))
    };
    let count = commands.len() as u64;
    let entries = commands.into_iter().map(place).collect();
    parts
        .log
        .append(LogTopic::Commands, entries)
        .await
        .map_err(|error| Trouble::Away(error.to_string()))?;
    metrics::counter!("acuvim_commands_delivered_total").increment(count);
    Ok(())
}
