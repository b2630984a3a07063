//! Turns events of the log into stored messages, each event once.

use std::time::Duration;

use acuvim_control::{
    DeviceMembership, Lease, NoticeChange, NoticeItem, NoticeOutcome, NoticePosition,
};
use acuvim_log::{Batch, ErrorKind, LogTopic, ReadLimit};
use acuvim_model::{Notification, event::Event};
use chrono::Utc;
use futures::future::join_all;

use super::{
    select::select,
    turn::{Turn, held},
};
use crate::dependencies::Dependencies;

/// The most that one read brings.
const READ_LIMIT: ReadLimit =
    ReadLimit { records: 500, bytes: 1 << 20, wait: Duration::from_millis(500) };

/// How long to wait while a component is away, or while another process collects.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Collects from all partitions while the lease is held.
pub(super) async fn run(dependencies: &Dependencies, turn: Turn) {
    let partitions = 0..dependencies.log.partitions();
    join_all(partitions.map(|partition| collect(dependencies, partition, turn.clone()))).await;
}

async fn collect(dependencies: &Dependencies, partition: u32, mut turn: Turn) {
    loop {
        let lease = held(&mut turn).await;
        if let Err(error) = collect_while_held(dependencies, partition, lease, &turn).await {
            tracing::debug!(%error, "notifications wait");
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Collects until a component is away or another process holds the lease.
async fn collect_while_held(
    dependencies: &Dependencies,
    partition: u32,
    lease: Lease,
    turn: &Turn,
) -> Result<(), AnyError> {
    let mut position = start_position(dependencies, partition).await?;
    while turn.borrow().is_some_and(|held| held.epoch == lease.epoch) {
        let batch = read(dependencies, position).await?;
        // A position that did not move is not written: every idle partition would cost a
        // transaction twice a second.
        if batch.next == position.next {
            continue;
        }
        let change = messages(dependencies, position, &batch).await?;
        position = change.to;
        let (control, epoch) = (&dependencies.control, dependencies.epoch);
        let stored = control.note_notices(epoch, lease, &change, Utc::now()).await?;
        if stored == NoticeOutcome::Overtaken {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the next events. Where the log has dropped them, returns an empty batch that goes on
/// behind the gap, because the events in it are lost.
async fn read(dependencies: &Dependencies, position: NoticePosition) -> Result<Batch, AnyError> {
    let NoticePosition { partition, next, .. } = position;
    let log = &dependencies.log;
    match log.read(LogTopic::Events, partition, next, READ_LIMIT).await {
        Ok(batch) => Ok(batch),
        Err(error) if error.kind() == ErrorKind::OutOfRange => {
            let bounds = log.bounds(LogTopic::Events, partition).await?;
            let to = bounds.start.max(next.min(bounds.end));
            if to == next {
                return Err(error.into());
            }
            tracing::error!(
                partition,
                from = next,
                to,
                "the log no longer has these events: nobody is notified of them"
            );
            Ok(Batch { entries: Vec::new(), next: to })
        }
        Err(error) => Err(error.into()),
    }
}

/// The stored position of a partition. One without a position begins at the log's end, since a new
/// system must not notify people of old events.
async fn start_position(
    dependencies: &Dependencies,
    partition: u32,
) -> Result<NoticePosition, AnyError> {
    let (control, epoch) = (&dependencies.control, dependencies.epoch);
    loop {
        let positions = control.notice_positions(epoch).await?;
        if let Some(position) = positions.into_iter().find(|p| p.partition == partition) {
            return Ok(position);
        }
        let next = dependencies.log.bounds(LogTopic::Events, partition).await?.end;
        control.begin_notices(epoch, NoticePosition { partition, next, seq: 0 }).await?;
    }
}

/// The messages of a batch, and the position behind it.
async fn messages(
    dependencies: &Dependencies,
    from: NoticePosition,
    batch: &Batch,
) -> Result<NoticeChange, AnyError> {
    let mut to = NoticePosition { next: batch.next, ..from };
    let mut events = Vec::new();
    for (_, entry) in &batch.entries {
        let seq = entry.outbox_seq().unwrap_or(0);
        // The outbox may deliver an event twice, under the same number.
        if seq > to.seq {
            to.seq = seq;
            // An event of a newer version is skipped: notifying of it can't be done later either.
            events.extend(Event::from_entry(entry).ok());
        }
    }
    let items =
        if events.is_empty() { Vec::new() } else { selected(dependencies, &events).await? };
    Ok(NoticeChange { items, from, to })
}

async fn selected(
    dependencies: &Dependencies,
    events: &[Event],
) -> Result<Vec<NoticeItem>, AnyError> {
    let all: Vec<Notification> = dependencies.control.notifications().await?;
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let mut devices: Vec<String> =
        events.iter().filter_map(|event| event.device_id().map(str::to_owned)).collect();
    devices.sort_unstable();
    devices.dedup();
    let places = dependencies.control.device_memberships(&devices).await?;
    let no_place = DeviceMembership::default();
    let place =
        |event: &Event| event.device_id().and_then(|id| places.get(id)).unwrap_or(&no_place);
    Ok(events.iter().flat_map(|event| select(event, &all, place(event))).collect())
}

#[cfg(test)]
mod tests;
