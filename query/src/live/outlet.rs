//! What is written to one client, in which order: first what it missed, then what waits for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    event::{LiveEvent, Missed, invocation},
    hub::{Connection, Hub, Joined, Refused},
    outbound::{Asked, Out},
    position::Position,
    replay::{Begun, Replay},
};
use crate::{App, auth::Caller};

/// Events and readings of one write.
const MOST: usize = 64;

/// How long to wait while the log is away.
const AWAY: Duration = Duration::from_secs(1);

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// As records of the hub's protocol.
    Hub,
    /// As server-sent events.
    Sse,
}

/// See the module.
pub(crate) struct Outlet {
    app: Arc<App>,
    joined: Joined,
    wire: Wire,
    replay: Option<Replay>,
    /// What is said before anything else.
    first: Vec<Bytes>,
    /// Until then a client that never subscribed is told nothing: it may be about to.
    grace: Option<Instant>,
    /// Whether the client is told positions.
    positions: bool,
}

impl Outlet {
    /// For a new connection, which gets what happens from now on.
    pub async fn open(app: &Arc<App>, caller: Caller, wire: Wire) -> Result<Self, Refusal> {
        let visible = super::access::visible(app, caller.scope()).await?;
        let limits = &app.hub.limits;
        let asked = Asked { whole: true, interval: limits.default_interval, ..Asked::default() };
        let joined = Hub::join(&app.hub, caller, visible, asked)?;
        let (app, first) = (Arc::clone(app), Vec::new());
        Ok(Self { app, joined, wire, replay: None, first, grace: None, positions: false })
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.joined.connection
    }

    /// Begins with what happened behind a position.
    pub async fn resume(&mut self, seen: &Position) -> Result<(), acuvim_log::Error> {
        let begun = Replay::begin(&self.app, seen, &self.joined.connection.joined).await?;
        let (Begun::Whole(replay) | Begun::Gap(replay)) = begun;
        // Where one partition has a gap, the others may be ahead of this process.
        self.joined.connection.has_seen(replay.at().clone());
        self.replay = Some(replay);
        Ok(())
    }

    /// What a client is told that was told nothing for a while: where it is, if everything up to there
    /// was told or is not for it. Else its next connection would begin far behind.
    pub fn idle(&self) -> Option<Vec<u8>> {
        if self.replay.is_some() || self.grace.is_some() || !self.first.is_empty() {
            return None;
        }
        let position = self.app.hub.position_of(&self.joined.connection)?;
        Some(self.position(&position))
    }

    fn position(&self, position: &Position) -> Vec<u8> {
        let id = position.encode();
        match self.wire {
            // Without data it is no event to the client, and its id counts all the same.
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

    /// From now on, or not, the client is told positions.
    pub const fn tell_positions(&mut self, tell: bool) {
        self.positions = tell;
    }

    /// Gives the client a moment to subscribe.
    pub fn begin_grace(&mut self) {
        self.grace = Some(Instant::now() + self.app.hub.limits.grace);
    }

    /// The client has said what it wants.
    pub const fn end_grace(&mut self) {
        self.grace = None;
    }

    /// What is said before anything else.
    pub fn begin_with(&mut self, bytes: Bytes) {
        self.first.push(bytes);
    }

    /// Waits for what comes next, and answers with it as it is written. May be dropped while it
    /// waits: nothing is lost by that.
    pub async fn next(&mut self) -> Vec<u8> {
        if let Some(grace) = self.grace {
            tokio::time::sleep_until(grace.into()).await;
            self.grace = None;
        }
        if !self.first.is_empty() {
            return std::mem::take(&mut self.first).concat();
        }
        while let Some(replay) = &mut self.replay {
            if let Some((reason, at)) = replay.take_gone() {
                let missed = Missed { gap: Some(reason), ..Missed::default() };
                return [self.missed(&missed).to_vec(), self.position(&at)].concat();
            }
            match replay.next(&self.app).await {
                Ok(Some(events)) => {
                    let out = self.joined.connection.out();
                    let wanted = |e: &Arc<LiveEvent>| out.wants(e.kind, e.device.as_deref());
                    let wanted: Vec<Out> =
                        events.into_iter().filter(wanted).map(Out::Event).collect();
                    drop(out);
                    if !wanted.is_empty() {
                        return self.written(wanted);
                    }
                }
                Ok(None) => self.replay = None,
                Err(error) => {
                    tracing::debug!(%error, "a live client's missed events wait for the log");
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
        self.app.hub.catch_up(&self.joined.connection);
        let out = self.joined.connection.next(MOST).await;
        self.written(out)
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
pub(crate) enum Refusal {
    /// There is no room, or not yet.
    Hub(Refused),
    /// What the caller sees is not known.
    Control(acuvim_control::Error),
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::Hub(refused)
    }
}

impl From<acuvim_control::Error> for Refusal {
    fn from(error: acuvim_control::Error) -> Self {
        Self::Control(error)
    }
}
