//! From the log's events to messages that wait: each event once.

use std::time::Duration;

use acuvim_control::{DevicePlace, Lease, Noted, NoticeChange, NoticePlace};
use acuvim_log::{Batch, ErrorKind, LogTopic, ReadLimit};
use acuvim_schemas::{api::Notification, event::Event};
use chrono::Utc;
use futures::future::join_all;
use tokio::sync::watch;

use super::{decide::decide, held};
use crate::Parts;

/// What one read brings at most.
const READ: ReadLimit =
    ReadLimit { records: 500, bytes: 1 << 20, wait: Duration::from_millis(500) };

/// How long to wait while a component is away, or another process reads.
const AWAY: Duration = Duration::from_secs(1);

type Away = Box<dyn std::error::Error + Send + Sync>;

/// Reads all partitions as long as the lease is held.
pub(super) async fn run(parts: &Parts, turn: watch::Receiver<Option<Lease>>) {
    let partitions = 0..parts.log.partitions();
    join_all(partitions.map(|partition| follow(parts, partition, turn.clone()))).await;
}

async fn follow(parts: &Parts, partition: u32, mut turn: watch::Receiver<Option<Lease>>) {
    loop {
        let lease = held(&mut turn).await;
        if let Err(error) = work(parts, partition, lease, &turn).await {
            tracing::debug!(%error, "notifications wait");
        }
        tokio::time::sleep(AWAY).await;
    }
}

/// Reads on until something is away, or until another process holds the lease.
async fn work(
    parts: &Parts,
    partition: u32,
    lease: Lease,
    turn: &watch::Receiver<Option<Lease>>,
) -> Result<(), Away> {
    let mut place = begin(parts, partition).await?;
    while turn.borrow().is_some_and(|held| held.epoch == lease.epoch) {
        let batch = match parts.log.read(LogTopic::Events, partition, place.next, READ).await {
            Ok(batch) => batch,
            Err(error) if error.kind() == ErrorKind::OutOfRange => {
                let bounds = parts.log.bounds(LogTopic::Events, partition).await?;
                let to = bounds.start.max(place.next.min(bounds.end));
                if to == place.next {
                    return Err(error.into());
                }
                tracing::error!(
                    partition,
                    from = place.next,
                    to,
                    "the log does not have the events that are next: nobody is told of them"
                );
                Batch { entries: Vec::new(), next: to }
            }
            Err(error) => return Err(error.into()),
        };
        if batch.next == place.next {
            continue;
        }
        let change = noted(parts, place, &batch).await?;
        place = change.to;
        let noted = parts.control.note_notices(parts.epoch, lease, &change, Utc::now()).await?;
        if noted == Noted::Overtaken {
            return Ok(());
        }
    }
    Ok(())
}

/// Where a partition was left; one that never was read begins at its end: nobody is told of the past.
async fn begin(parts: &Parts, partition: u32) -> Result<NoticePlace, Away> {
    loop {
        let places = parts.control.notice_places(parts.epoch).await?;
        if let Some(place) = places.into_iter().find(|place| place.partition == partition) {
            return Ok(place);
        }
        let next = parts.log.bounds(LogTopic::Events, partition).await?.end;
        let place = NoticePlace { partition, next, seq: 0 };
        parts.control.begin_notices(parts.epoch, place).await?;
    }
}

/// What a batch comes to.
async fn noted(parts: &Parts, from: NoticePlace, batch: &Batch) -> Result<NoticeChange, Away> {
    let mut to = NoticePlace { next: batch.next, ..from };
    let mut events = Vec::new();
    for (_, entry) in &batch.entries {
        let seq = entry.headers.iter().find(|(name, _)| name.as_ref() == b"outbox_seq");
        let seq = seq.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
        let seq: i64 = seq.unwrap_or(0);
        // The outbox may deliver one again.
        if seq > to.seq {
            to.seq = seq;
            events.extend(serde_json::from_slice::<Event>(&entry.value).ok());
        }
    }
    let mut items = Vec::new();
    let all: Vec<Notification> = match events.is_empty() {
        true => Vec::new(),
        false => parts.control.notifications().await?,
    };
    if !all.is_empty() {
        let mut devices: Vec<String> =
            events.iter().filter_map(|event| event.device_id().map(str::to_owned)).collect();
        devices.sort_unstable();
        devices.dedup();
        let places = parts.control.device_places(&devices).await?;
        let nowhere = DevicePlace::default();
        for event in &events {
            let place = event.device_id().and_then(|id| places.get(id)).unwrap_or(&nowhere);
            items.extend(decide(event, &all, place));
        }
    }
    Ok(NoticeChange { items, from, to })
}
