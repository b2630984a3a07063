//! The connections, and the fan-out to them: an event is encoded once and handed to every connection that
//! covers it. No client is waited for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio_util::sync::CancellationToken;

use crate::{
    connection::{Closing, Connection},
    event::{EventMessage, EventOffset, LiveEvent, Reading},
    limits::LiveLimits,
    outbound::{EventFilter, Outbound, QueueLimits, Visible},
    position::{PartitionPosition, StreamPosition},
    stalled::StalledClients,
    subscriber::Subscriber,
};

/// The connections of one process.
#[derive(Debug)]
pub struct Hub {
    pub(crate) limits: LiveLimits,
    inner: Mutex<Inner>,
    next_number: AtomicU64,
    stalled: StalledClients,
    stopping: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where this process's readers of the log are; none before they begin.
    position: Option<StreamPosition>,
    connections: HashMap<u64, Arc<Connection>>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The log's events can't be read yet.
    NotReady,
    /// The process is ending.
    Stopping,
    /// The process has as many connections as it may.
    Full,
    /// This user or key has as many connections as it may.
    FullOfCaller,
}

impl Hub {
    pub(crate) fn new(limits: LiveLimits) -> Self {
        let (inner, next_number) = (Mutex::default(), AtomicU64::new(0));
        let stalled = StalledClients::new(limits.queue_readings);
        Self { limits, inner, next_number, stalled, stopping: CancellationToken::new() }
    }

    /// Sets where the readers of the log begin. Connections are taken from then on.
    pub(crate) fn begin(&self, position: StreamPosition) {
        self.lock().position.get_or_insert(position);
    }

    /// Takes a connection, which gets everything that happens from now on.
    pub(crate) fn join(
        self: &Arc<Self>,
        subscriber: Subscriber,
        visible: Visible,
        filter: EventFilter,
    ) -> Result<Joined, Refusal> {
        let mut inner = self.lock();
        // Under the lock: either `close_all` sees this connection, or this sees that the end has begun.
        if self.stopping.is_cancelled() {
            return Err(Refusal::Stopping);
        }
        let joined = inner.position.clone().ok_or(Refusal::NotReady)?;
        if inner.connections.len() >= self.limits.connections {
            return Err(Refusal::Full);
        }
        let same =
            inner.connections.values().filter(|c| c.subscriber_id() == subscriber.id).count();
        if same >= self.limits.connections_of_caller {
            return Err(Refusal::FullOfCaller);
        }
        // Never used again: the readings of stalled clients are kept by this number.
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let limits = QueueLimits {
            events: self.limits.queue_events,
            bytes: self.limits.queue_bytes,
            readings: self.limits.queue_readings,
            subscriptions: self.limits.subscriptions,
            devices: self.limits.subscribed_devices,
        };
        let out = Outbound::new(limits, visible, filter);
        let connection = Arc::new(Connection::new(number, subscriber, joined, out));
        inner.connections.insert(number, Arc::clone(&connection));
        metrics::gauge!("acuvim_live_connections").set(inner.connections.len() as f64);
        Ok(Joined { hub: Arc::clone(self), connection })
    }

    /// The connections as they are now; others may join and leave meanwhile.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.lock().connections.values().cloned().collect()
    }

    /// Whether there are no connections.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().connections.is_empty()
    }

    /// Moves a partition on, and hands its event, if it has one for clients, to every connection that covers
    /// it.
    pub(crate) fn publish(
        &self,
        message: Option<EventMessage>,
        partition: usize,
        after: PartitionPosition,
    ) {
        // Locked until the event is handed out: a connection that joins begins before it or after it.
        let mut inner = self.lock();
        let Some(position) = &mut inner.position else { return };
        if let Some(at) = position.partitions.get_mut(partition) {
            *at = after;
        }
        let Some(message) = message else { return };
        let at = EventOffset { partition, offset: after.next - 1 };
        let event = Arc::new(LiveEvent::new(message, position.clone(), at));
        let mut handed = 0;
        for connection in inner.connections.values() {
            handed += u64::from(connection.offer(&event));
        }
        drop(inner);
        metrics::counter!("acuvim_live_events_total").increment(handed);
    }

    /// Hands readings and heartbeats to every connection that covers them.
    pub(crate) fn publish_readings(&self, readings: &[Arc<Reading>]) {
        let now = Instant::now();
        // Without the lock: a reading is replaced by the next one, so that its order matters to nobody.
        let connections = self.connections();
        let connected: Vec<u64> = connections.iter().map(|c| c.number).collect();
        let stalled = connections.iter().filter(|c| c.is_stalled(now)).map(|c| c.number);
        let kept = self.stalled.keep(&connected, stalled, readings);
        for connection in connections {
            match kept.stalled.contains(&connection.number) {
                true => connection.offer_readings(&kept.rest, now),
                false => connection.offer_readings(readings, now),
            }
        }
    }

    /// Offers a connection that goes on the readings that came while it was stalled.
    pub(crate) fn catch_up(&self, connection: &Connection) {
        let newest = self.stalled.remove(connection.number);
        if !newest.is_empty() {
            connection.offer_readings(&newest, Instant::now());
        }
    }

    /// The position of a connection for which no event waits: its client has got everything up to there
    /// that it covers, here or on another process that is ahead of this one.
    pub(crate) fn position_of(&self, connection: &Connection) -> Option<StreamPosition> {
        // Nothing is published while the lock is held.
        let inner = self.lock();
        let position = inner.position.as_ref()?;
        if connection.out().has_events() {
            return None;
        }
        Some(connection.position(position))
    }

    /// Tells every client that events are missing, and why.
    pub(crate) fn missed(&self, reason: &str) {
        for connection in self.connections() {
            connection.missed(reason);
        }
    }

    /// Closes every connection, and takes no more.
    pub(crate) fn close_all(&self, closing: &Closing) {
        self.stopping.cancel();
        for connection in self.connections() {
            connection.close(closing.clone());
        }
    }

    fn leave(&self, connection: &Connection) {
        let mut inner = self.lock();
        inner.connections.remove(&connection.number);
        self.stalled.remove(connection.number);
        metrics::gauge!("acuvim_live_connections").set(inner.connections.len() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that leaves the hub when this is dropped.
#[derive(Debug)]
pub(crate) struct Joined {
    hub: Arc<Hub>,
    pub connection: Arc<Connection>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.hub.leave(&self.connection);
    }
}

#[cfg(test)]
mod tests;
