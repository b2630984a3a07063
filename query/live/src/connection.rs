//! The connection of one client: what waits for it, what it has seen, and whether it is to end.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use acuvim_model::Scope;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    event::{EventOffset, LiveEvent, Reading},
    outbound::{Out, Outbound},
    position::{PartitionPosition, StreamPosition},
    subscriber::Subscriber,
};

/// A client that accepts nothing of a write for longer is stalled.
const STALLED_AFTER: Duration = Duration::from_millis(500);

/// Why a connection ends, and whether the client should reconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// What the client is told.
    pub reason: String,
    /// Whether it should reconnect by itself.
    pub reconnect: bool,
}

impl Closing {
    /// The client should reconnect.
    pub fn again(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), reconnect: true }
    }

    /// The client should not reconnect by itself.
    pub fn for_good(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), reconnect: false }
    }
}

/// The connection of one client.
#[derive(Debug)]
pub struct Connection {
    pub(crate) number: u64,
    subscriber: Mutex<Subscriber>,
    /// Where the stream of events was when it began: only the log has what is older.
    pub joined: StreamPosition,
    out: Mutex<Outbound>,
    /// What its client has seen on another process, and does not get again.
    seen: OnceLock<StreamPosition>,
    wake: Notify,
    /// Since when a write has been waiting for its client.
    writing: Mutex<Option<Instant>>,
    closing: OnceLock<Closing>,
    closed: CancellationToken,
}

impl Connection {
    pub(crate) fn new(
        number: u64,
        subscriber: Subscriber,
        joined: StreamPosition,
        out: Outbound,
    ) -> Self {
        Self {
            number,
            subscriber: Mutex::new(subscriber),
            joined,
            out: Mutex::new(out),
            seen: OnceLock::new(),
            wake: Notify::new(),
            writing: Mutex::default(),
            closing: OnceLock::new(),
            closed: CancellationToken::new(),
        }
    }

    pub(crate) fn subscriber(&self) -> Subscriber {
        self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets which devices its subscriber sees now.
    pub(crate) fn set_scope(&self, scope: Option<Scope>) {
        self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).scope = scope;
    }

    pub(crate) fn subscriber_id(&self) -> Uuid {
        self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).id
    }

    /// What waits for it, and its subscriptions.
    pub(crate) fn out(&self) -> MutexGuard<'_, Outbound> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what its client has seen already, and does not get again.
    pub(crate) fn has_seen(&self, position: StreamPosition) {
        // Once: a client resumes with its first subscription only.
        let _ = self.seen.set(position);
        self.out().keep_events(|event| !self.has_event(event));
    }

    /// A position of this process, moved on by what its client has seen on a process that is ahead; none if
    /// that is nothing. A position that lacks some of it would give the client these events twice, from
    /// its next connection.
    pub(crate) fn position_ahead(&self, position: &StreamPosition) -> Option<StreamPosition> {
        position.ahead(self.seen_partitions())
    }

    /// The position that its client can go on from.
    pub(crate) fn position(&self, position: &StreamPosition) -> StreamPosition {
        self.position_ahead(position).unwrap_or_else(|| position.clone())
    }

    fn seen_partitions(&self) -> &[PartitionPosition] {
        self.seen.get().map(|seen| seen.partitions.as_slice()).unwrap_or_default()
    }

    fn has_event(&self, event: &LiveEvent) -> bool {
        let EventOffset { partition, offset } = event.at;
        self.seen_partitions().get(partition).is_some_and(|seen| offset < seen.next)
    }

    /// Tells its client that events are missing, and why.
    pub(crate) fn missed(&self, reason: &str) {
        self.out().missed(reason);
        self.wake.notify_one();
    }

    /// Ends it. If it is closed several times, the first reason counts.
    pub(crate) fn close(&self, closing: Closing) {
        // The reason first: whoever is woken by the token reads it.
        let _ = self.closing.set(closing);
        self.out().clear();
        self.closed.cancel();
    }

    /// Waits until it is closed, and answers with why.
    pub async fn closed(&self) -> Closing {
        self.closed.cancelled().await;
        self.closing.get().cloned().unwrap_or_else(|| Closing::for_good("it was closed"))
    }

    /// Runs a write to its client, noting how long the client takes.
    pub async fn write<T>(&self, writing: impl Future<Output = T>) -> T {
        self.set_writing(Some(Instant::now()));
        let written = writing.await;
        self.set_writing(None);
        written
    }

    fn set_writing(&self, since: Option<Instant>) {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        let since = *self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| now.saturating_duration_since(since) > STALLED_AFTER)
    }

    /// Waits until something is due, and takes it.
    pub(crate) async fn next(&self, most: usize) -> Vec<Out> {
        loop {
            let now = Instant::now();
            let due = self.out().due(now);
            match due {
                Some(due) if due <= now => return self.out().take(now, most),
                Some(due) => {
                    let _ = tokio::time::timeout_at(due.into(), self.wake.notified()).await;
                }
                None => self.wake.notified().await,
            }
        }
    }

    pub(crate) fn offer(&self, event: &Arc<LiveEvent>) -> bool {
        if self.has_event(event) {
            return false;
        }
        let offered = self.out().offer(event);
        match offered {
            Ok(waits) => {
                if waits {
                    self.wake.notify_one();
                }
                waits
            }
            Err(_too_slow) => {
                metrics::counter!("acuvim_live_too_slow_total").increment(1);
                self.close(Closing::again(
                    "too many events wait for this client: it reads too slowly",
                ));
                false
            }
        }
    }

    pub(crate) fn offer_readings(&self, readings: &[Arc<Reading>], now: Instant) {
        let mut out = self.out();
        let mut any = false;
        for reading in readings {
            any |= out.offer_reading(reading, now);
        }
        drop(out);
        if any {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
