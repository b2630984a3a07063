//! Who is connected, and the fan-out: an event is written out once and handed to everybody who is to
//! get it. No client is waited for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    BEHIND, LiveLimits,
    behind::Behind,
    event::{LiveEvent, Reading, Told},
    outbound::{Asked, Out, Outbound, QueueLimits, Visible},
    position::{Place, Position},
};
use crate::auth::Caller;

/// The connections of one process.
#[derive(Debug)]
pub(crate) struct Hub {
    pub limits: LiveLimits,
    inner: Mutex<Inner>,
    numbered: AtomicU64,
    behind: Behind,
    stopping: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where this process's readers of the log are; none before they have begun.
    position: Option<Position>,
    connections: HashMap<u64, Arc<Connection>>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The log's events can't be read yet.
    NotReady,
    /// The process is ending.
    Stopping,
    /// As many are there as may be.
    Full,
    /// As many are there of this user or key.
    FullOfCaller,
}

/// Why a connection ends, and whether the client should come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closing {
    pub reason: String,
    pub come_again: bool,
}

impl Closing {
    pub fn again(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), come_again: true }
    }

    pub fn for_good(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), come_again: false }
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    caller: Mutex<Caller>,
    /// Where the stream of events was when it came: what is older only the log has.
    pub joined: Position,
    out: Mutex<Outbound>,
    /// What it has seen already, on another process: that is not told again.
    seen: OnceLock<Position>,
    wake: Notify,
    /// Since when something is being written to it that it does not take.
    writing: Mutex<Option<Instant>>,
    closing: OnceLock<Closing>,
    closed: CancellationToken,
}

impl Hub {
    pub fn new(limits: LiveLimits) -> Self {
        let (inner, numbered) = (Mutex::default(), AtomicU64::new(0));
        let behind = Behind::new(limits.queue_readings);
        Self { limits, inner, numbered, behind, stopping: CancellationToken::new() }
    }

    /// Says where the readers of the log begin: from then on connections are taken.
    pub fn begin(&self, position: Position) {
        self.lock().position.get_or_insert(position);
    }

    /// Takes a connection. It gets everything that happens from now on.
    pub fn join(
        self: &Arc<Self>,
        caller: Caller,
        visible: Visible,
        asked: Asked,
    ) -> Result<Joined, Refused> {
        let mut inner = self.lock();
        // Under the lock: `close_all` has seen it, or it sees that the end has begun.
        if self.stopping.is_cancelled() {
            return Err(Refused::Stopping);
        }
        let joined = inner.position.clone().ok_or(Refused::NotReady)?;
        if inner.connections.len() >= self.limits.connections {
            return Err(Refused::Full);
        }
        let same = inner.connections.values().filter(|c| c.caller_id() == caller.user.id).count();
        if same >= self.limits.connections_of_caller {
            return Err(Refused::FullOfCaller);
        }
        let number = self.numbered.fetch_add(1, Ordering::Relaxed);
        let limits = QueueLimits {
            events: self.limits.queue_events,
            bytes: self.limits.queue_bytes,
            readings: self.limits.queue_readings,
            subscriptions: self.limits.subscriptions,
            devices: self.limits.subscribed_devices,
        };
        let connection = Arc::new(Connection {
            number,
            caller: Mutex::new(caller),
            joined,
            out: Mutex::new(Outbound::new(limits, visible, asked)),
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

    /// The connections that there are.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.lock().connections.values().cloned().collect()
    }

    /// Whether anybody is there to be told anything.
    pub fn is_empty(&self) -> bool {
        self.lock().connections.is_empty()
    }

    /// Hands an event of the log to everybody who is to get it.
    pub fn publish(&self, told: Option<Told>, partition: usize, place: Place) {
        let mut inner = self.lock();
        let Some(position) = &mut inner.position else { return };
        if let Some(at) = position.places.get_mut(partition) {
            *at = place;
        }
        let Some(told) = told else { return };
        let at = (partition, place.next - 1);
        let event = Arc::new(LiveEvent::new(told, position.clone(), at));
        let mut handed = 0;
        for connection in inner.connections.values() {
            handed += u64::from(connection.offer(&event));
        }
        drop(inner);
        metrics::counter!("acuvim_live_events_total").increment(handed);
    }

    /// Hands readings and heartbeats to everybody who is to get them.
    pub fn publish_readings(&self, readings: &[Arc<Reading>]) {
        let now = Instant::now();
        let connections = self.connections();
        let there: Vec<u64> = connections.iter().map(|c| c.number).collect();
        let take_nothing = connections.iter().filter(|c| c.takes_nothing(now)).map(|c| c.number);
        let put = self.behind.put(&there, take_nothing, readings);
        for connection in connections {
            match put.behind.contains(&connection.number) {
                true => connection.offer_readings(&put.rest, now),
                false => connection.offer_readings(readings, now),
            }
        }
    }

    /// Gives a connection that is about to take something what came while it took nothing.
    pub fn catch_up(&self, connection: &Connection) {
        let newest = self.behind.remove(connection.number);
        if !newest.is_empty() {
            connection.offer_readings(&newest, Instant::now());
        }
    }

    /// Where a connection is that has nothing waiting: everything up to there it was told, or it is
    /// not for it. What it saw on another process that is ahead of this one counts.
    pub fn position_of(&self, connection: &Connection) -> Option<Position> {
        // Under the lock nothing is published.
        let inner = self.lock();
        let position = inner.position.as_ref()?;
        if connection.out().has_events() {
            return None;
        }
        Some(connection.position(position))
    }

    /// Tells everybody that events can't be told, and why.
    pub fn missed(&self, reason: &str) {
        for connection in self.connections() {
            connection.out().missed(reason);
            connection.wake.notify_one();
        }
    }

    /// Closes every connection, and takes none any more.
    pub fn close_all(&self, closing: &Closing) {
        self.stopping.cancel();
        for connection in self.connections() {
            connection.close(closing.clone());
        }
    }

    fn leave(&self, connection: &Connection) {
        let mut inner = self.lock();
        inner.connections.remove(&connection.number);
        self.behind.remove(connection.number);
        metrics::gauge!("acuvim_live_connections").set(inner.connections.len() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection as long as its client is there.
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
    /// Who it is of.
    pub fn caller(&self) -> Caller {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which devices its caller sees now.
    pub fn set_scope(&self, scope: Option<acuvim_schemas::api::Scope>) {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner).scope = scope;
    }

    fn caller_id(&self) -> Uuid {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner).user.id
    }

    /// What waits for it, and what it asks for.
    pub fn out(&self) -> MutexGuard<'_, Outbound> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what its client has seen already: that is not told again.
    pub fn has_seen(&self, position: Position) {
        let _ = self.seen.set(position);
        self.out().keep_events(|event| !self.has_event(event));
    }

    /// A position of this process with what its client has seen on one that is ahead of it; none if
    /// the client has seen nothing beyond it. A client that is told less than it has seen would be
    /// told some events twice by its next connection.
    pub fn position_ahead(&self, position: &Position) -> Option<Position> {
        position.ahead(self.seen_places())
    }

    /// The position that its client goes on from.
    pub fn position(&self, position: &Position) -> Position {
        self.position_ahead(position).unwrap_or_else(|| position.clone())
    }

    fn seen_places(&self) -> &[Place] {
        self.seen.get().map(|seen| seen.places.as_slice()).unwrap_or_default()
    }

    fn has_event(&self, event: &LiveEvent) -> bool {
        let (partition, offset) = event.at;
        self.seen_places().get(partition).is_some_and(|seen| offset < seen.next)
    }

    /// Ends it; the first reason counts.
    pub fn close(&self, closing: Closing) {
        let _ = self.closing.set(closing);
        self.out().clear();
        self.closed.cancel();
    }

    /// Waits until it is to end.
    pub async fn closed(&self) -> Closing {
        self.closed.cancelled().await;
        self.closing.get().cloned().unwrap_or_else(|| Closing::for_good("it was closed"))
    }

    /// Writes something to it.
    pub async fn write<T>(&self, writing: impl Future<Output = T>) -> T {
        self.set_writing(Some(Instant::now()));
        let written = writing.await;
        self.set_writing(None);
        written
    }

    fn set_writing(&self, since: Option<Instant>) {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn takes_nothing(&self, now: Instant) -> bool {
        let since = *self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| now.saturating_duration_since(since) > BEHIND)
    }

    /// Waits until something is due, and takes it.
    pub async fn next(&self, most: usize) -> Vec<Out> {
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
        let mut some = false;
        for reading in readings {
            some |= out.offer_reading(reading, now);
        }
        drop(out);
        if some {
            self.wake.notify_one();
        }
    }
}
