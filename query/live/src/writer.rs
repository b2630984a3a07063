//! What is written to one client, and in which order: first what it missed, then what waits for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    access,
    connection::Connection,
    event::{LiveEvent, Missed, invocation},
    hub::{Hub, Joined, Refusal},
    outbound::{EventFilter, Out},
    position::StreamPosition,
    replay::{Gap, Replay},
    state::Live,
    subscribe::{Selection, Subscribe},
    subscriber::Subscriber,
};

/// Events and readings of one write.
const MOST: usize = 64;

/// The pause before the log is read again after an error.
const RETRY: Duration = Duration::from_secs(1);

/// How events are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// As records of the hub's protocol.
    Hub,
    /// As server-sent events.
    Sse,
}

/// Writes to one client.
#[derive(Debug)]
pub struct ConnectionWriter {
    live: Live,
    joined: Joined,
    wire: Wire,
    replay: Option<Replay>,
    /// Bytes that are written before anything else.
    first: Vec<Bytes>,
    /// Until then a client that never subscribed gets nothing: it may be about to subscribe.
    grace: Option<Instant>,
    /// Whether the client gets positions.
    positions: bool,
}

impl ConnectionWriter {
    /// Opens a connection, which gets everything that happens from now on.
    ///
    /// # Errors
    /// When the hub takes no more, or control is away.
    pub async fn open(
        live: &Live,
        subscriber: Subscriber,
        wire: Wire,
    ) -> Result<Self, ConnectError> {
        // Before it joins: from its first moment in the hub a connection gets what its scope sees.
        let visible = access::visible(live, subscriber.scope.as_ref()).await?;
        let interval = live.limits().default_interval;
        let filter = EventFilter { whole: true, interval, ..EventFilter::default() };
        let joined = Hub::join(live.hub(), subscriber, visible, filter)?;
        let (live, first) = (live.clone(), Vec::new());
        Ok(Self { live, joined, wire, replay: None, first, grace: None, positions: false })
    }

    /// The connection that is written to.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.joined.connection
    }

    /// What everything about live connections shares.
    pub(crate) const fn live(&self) -> &Live {
        &self.live
    }

    /// Adds a subscription, and answers with its number.
    ///
    /// # Errors
    /// What is wrong with the subscription, for the client.
    pub async fn subscribe(&self, subscribe: &Subscribe) -> Result<u64, String> {
        let connection = self.connection();
        let Selection { filter, covers } = subscribe.selection(&self.live, connection).await?;
        connection.out().subscribe(filter, covers)
    }

    /// Begins with what happened since a position.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn resume(&mut self, seen: &StreamPosition) -> Result<(), acuvim_log::Error> {
        let connection = &self.joined.connection;
        let replay = Replay::begin(&self.live, seen, &connection.joined).await?;
        // Also if one partition has a gap: in the others the client may be ahead of this process.
        connection.has_seen(replay.at().clone());
        self.replay = Some(replay);
        Ok(())
    }

    /// What an idle client gets: its position, if no event waits for it. With an old position its next
    /// connection would begin by reading everything that was not for it once more.
    #[must_use]
    pub fn idle(&self) -> Option<Vec<u8>> {
        if self.replay.is_some() || self.grace.is_some() || !self.first.is_empty() {
            return None;
        }
        let position = self.live.hub().position_of(&self.joined.connection)?;
        Some(self.position(&position))
    }

    fn position(&self, position: &StreamPosition) -> Vec<u8> {
        let id = position.encode();
        match self.wire {
            // An id without data is no event to the client, and yet its last event id from then on.
            Wire::Sse => format!("id: {id}\n\n").into_bytes(),
            Wire::Hub if self.positions => {
                let id = format!("\"{id}\"");
                invocation("EventsPosition", std::iter::once(id.as_str()))
            }
            Wire::Hub => Vec::new(),
        }
    }

    fn missed(&self, missed: &Missed) -> Bytes {
        match self.wire {
            Wire::Hub => missed.hub(),
            Wire::Sse => missed.sse(),
        }
    }

    /// Sets whether the client gets positions from now on.
    pub(crate) const fn send_positions(&mut self, send: bool) {
        self.positions = send;
    }

    /// Gives the client a moment to subscribe.
    pub(crate) fn begin_grace(&mut self) {
        self.grace = Some(Instant::now() + self.live.limits().grace);
    }

    /// The client has subscribed, or said that it wants nothing.
    pub(crate) const fn end_grace(&mut self) {
        self.grace = None;
    }

    /// Writes these bytes before anything else.
    pub fn begin_with(&mut self, bytes: Bytes) {
        self.first.push(bytes);
    }

    /// Waits for what comes next, and answers with its bytes. May be dropped while it waits: nothing is
    /// lost by that.
    pub async fn next(&mut self) -> Vec<u8> {
        if let Some(grace) = self.grace {
            tokio::time::sleep_until(grace.into()).await;
            self.grace = None;
        }
        if !self.first.is_empty() {
            return std::mem::take(&mut self.first).concat();
        }
        if let Some(bytes) = self.next_of_replay().await {
            return bytes;
        }
        // Before waiting: what came while the last write was stalled is due now.
        self.live.hub().catch_up(&self.joined.connection);
        let out = self.joined.connection.next(MOST).await;
        self.written(out)
    }

    /// What comes next of what the client missed; none once that is over.
    async fn next_of_replay(&mut self) -> Option<Vec<u8>> {
        while let Some(replay) = &mut self.replay {
            if let Some(Gap { reason, after }) = replay.take_gap() {
                let missed = Missed { gap: Some(reason), ..Missed::default() };
                return Some([self.missed(&missed).to_vec(), self.position(&after)].concat());
            }
            match replay.next(&self.live).await {
                Ok(Some(events)) => {
                    let covered = self.covered(events);
                    if !covered.is_empty() {
                        return Some(self.written(covered));
                    }
                }
                Ok(None) => self.replay = None,
                Err(error) => {
                    tracing::debug!(%error, "a live client's missed events wait for the log");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        None
    }

    /// Those of some events that a subscription covers.
    fn covered(&self, events: Vec<Arc<LiveEvent>>) -> Vec<Out> {
        let out = self.joined.connection.out();
        let wanted = |event: &Arc<LiveEvent>| out.wants(event.kind, event.device.as_deref());
        events.into_iter().filter(wanted).map(Out::Event).collect()
    }

    fn written(&self, all: Vec<Out>) -> Vec<u8> {
        let (mut bytes, mut last) = (Vec::new(), None);
        let connection = &self.joined.connection;
        for out in all {
            let frame = match (&out, self.wire) {
                (Out::Event(event), Wire::Hub) => event.hub().clone(),
                (Out::Event(event), Wire::Sse) => {
                    match connection.position_ahead(&event.position) {
                        Some(position) => event.sse_at(&position),
                        None => event.sse().clone(),
                    }
                }
                (Out::Reading(reading, fields), Wire::Hub) => reading.hub(fields.as_deref()),
                (Out::Reading(reading, fields), Wire::Sse) => reading.sse(fields.as_deref()),
                (Out::Missed(missed), _) => self.missed(missed),
            };
            bytes.extend_from_slice(&frame);
            if let Out::Event(event) = out {
                last = Some(event);
            }
        }
        if let (Wire::Hub, Some(last)) = (self.wire, last) {
            bytes.extend(self.position(&connection.position(&last.position)));
        }
        bytes
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The hub takes none, or not yet.
    Refused(Refusal),
    /// What the subscriber sees can't be looked up.
    Control(acuvim_control::Error),
}

impl From<Refusal> for ConnectError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<acuvim_control::Error> for ConnectError {
    fn from(error: acuvim_control::Error) -> Self {
        Self::Control(error)
    }
}

#[cfg(test)]
mod tests;
