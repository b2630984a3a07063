//! The connections, and the fan-out to them: an event is encoded once and handed to every connection that
//! covers it. No client is waited for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use acuvim_schemas::api::Scope;

use crate::{
    event::{EventMessage, EventOffset, LiveEvent, Reading},
    limits::LiveLimits,
    outbound::{EventFilter, Out, Outbound, QueueLimits, Visible},
    position::{PartitionPosition, StreamPosition},
    stalled::StalledClients,
    subscriber::Subscriber,
};

/// A client that accepts nothing of a write for so long is stalled.
const STALLED_AFTER: Duration = Duration::from_millis(500);

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
    number: u64,
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
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let limits = QueueLimits {
            events: self.limits.queue_events,
            bytes: self.limits.queue_bytes,
            readings: self.limits.queue_readings,
            subscriptions: self.limits.subscriptions,
            devices: self.limits.subscribed_devices,
        };
        let connection = Arc::new(Connection {
            number,
            subscriber: Mutex::new(subscriber),
            joined,
            out: Mutex::new(Outbound::new(limits, visible, filter)),
            seen: OnceLock::new(),
            wake: Notify::new(),
            writing: Mutex::default(),
            closing: OnceLock::new(),
            closed: CancellationToken::new(),
        });
        inner.connections.insert(number, Arc::clone(&connection));
        metrics::gauge!("acuvim_live_connections").set(inner.connections.len() as f64);
        Ok(Joined { hub: Arc::clone(self), connection })
    }

    /// All connections.
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
        behind: PartitionPosition,
    ) {
        let mut inner = self.lock();
        let Some(position) = &mut inner.position else { return };
        if let Some(at) = position.partitions.get_mut(partition) {
            *at = behind;
        }
        let Some(message) = message else { return };
        let at = EventOffset { partition, offset: behind.next - 1 };
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
            connection.out().missed(reason);
            connection.wake.notify_one();
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

impl Connection {
    pub(crate) fn subscriber(&self) -> Subscriber {
        self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets which devices its subscriber sees now.
    pub(crate) fn set_scope(&self, scope: Option<Scope>) {
        self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).scope = scope;
    }

    fn subscriber_id(&self) -> Uuid {
        self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).id
    }

    /// What waits for it, and its subscriptions.
    pub(crate) fn out(&self) -> MutexGuard<'_, Outbound> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what its client has seen already, and does not get again.
    pub(crate) fn has_seen(&self, position: StreamPosition) {
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

    /// Ends it. If it is closed several times, the first reason counts.
    pub(crate) fn close(&self, closing: Closing) {
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

    fn is_stalled(&self, now: Instant) -> bool {
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

    fn offer(&self, event: &Arc<LiveEvent>) -> bool {
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

    fn offer_readings(&self, readings: &[Arc<Reading>], now: Instant) {
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
