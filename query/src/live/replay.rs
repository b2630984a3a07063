//! What a client missed, read from the log behind the position that it names: page by page, as it
//! takes them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use acuvim_log::{ErrorKind, LogTopic, ReadLimit};

use super::{
    event::LiveEvent,
    feed::{numbered, tell},
    position::{Place, Position},
};
use crate::App;

/// What one read brings at most.
const PAGE: ReadLimit =
    ReadLimit { records: 200, bytes: 1 << 20, wait: Duration::from_millis(100) };

/// Reads from one position to another.
#[derive(Debug)]
pub(crate) struct Replay {
    at: Position,
    to: Position,
    /// Partitions that are not read to their end, in order.
    left: VecDeque<usize>,
    /// Why some of it can't be told, until the client is told so.
    gone: Option<String>,
}

/// What is told of events that the log has let go of.
const TOO_OLD: &str = "the log does not keep what is so old: what it has follows";

/// What became of a wish to go on behind a position.
#[derive(Debug)]
pub(crate) enum Begun {
    /// All that was missed is in the log.
    Whole(Replay),
    /// Some of it, or all, is not any more.
    Gap(Replay),
}

impl Replay {
    /// From what a client has seen, to where its connection began.
    pub async fn begin(
        app: &App,
        seen: &Position,
        to: &Position,
    ) -> Result<Begun, acuvim_log::Error> {
        let mut at = seen.clone();
        if seen.epoch != to.epoch || seen.places.len() != to.places.len() {
            let reason = "the log was begun anew since then: ask the API what is there now";
            return Ok(Self::gap(to.clone(), to, VecDeque::new(), reason));
        }
        let (mut left, mut gone) = (VecDeque::new(), false);
        for (partition, (place, to)) in at.places.iter_mut().zip(&to.places).enumerate() {
            let number = u32::try_from(partition).unwrap_or(u32::MAX);
            if place.next == to.next {
                continue;
            }
            let bounds = app.parts.log.bounds(LogTopic::Events, number).await?;
            if place.next > bounds.end {
                // It was set back: what is there now is not what was seen.
                gone = true;
                *place = *to;
            }
            if place.next < bounds.start {
                gone = true;
                place.next = bounds.start;
            }
            if place.next < to.next {
                left.push_back(partition);
            }
        }
        Ok(match gone {
            true => Self::gap(at, to, left, TOO_OLD),
            false => Begun::Whole(Self { at, to: to.clone(), left, gone: None }),
        })
    }

    fn gap(at: Position, to: &Position, left: VecDeque<usize>, reason: &str) -> Begun {
        Begun::Gap(Self { at, to: to.clone(), left, gone: Some(reason.to_owned()) })
    }

    /// Up to where the client has been told everything that can be told.
    pub const fn at(&self) -> &Position {
        &self.at
    }

    /// Why some of it can't be told, and from where on it is: said once.
    pub fn take_gone(&mut self) -> Option<(String, Position)> {
        self.gone.take().map(|reason| (reason, self.at.clone()))
    }

    /// The next events, in order; none once the end is reached. May be dropped while it waits: it
    /// then begins with the same again.
    pub async fn next(
        &mut self,
        app: &App,
    ) -> Result<Option<Vec<Arc<LiveEvent>>>, acuvim_log::Error> {
        let Some(partition) = self.left.front().copied() else { return Ok(None) };
        let number = u32::try_from(partition).unwrap_or(u32::MAX);
        let Some(to) = self.to.places.get(partition).map(|place| place.next) else {
            return Ok(None);
        };
        let mut place = self.at.places.get(partition).copied().unwrap_or_default();
        let batch = match app.parts.log.read(LogTopic::Events, number, place.next, PAGE).await {
            Ok(batch) => batch,
            // Let go of since the beginning.
            Err(error) if error.kind() == ErrorKind::OutOfRange => {
                place.next =
                    app.parts.log.bounds(LogTopic::Events, number).await?.start.max(place.next);
                self.set(partition, place);
                self.gone = Some(TOO_OLD.to_owned());
                return Ok(Some(Vec::new()));
            }
            Err(error) => return Err(error),
        };
        let (mut events, mut at) = (Vec::new(), self.at.clone());
        for (offset, entry) in &batch.entries {
            if *offset >= to {
                break;
            }
            let seq = numbered(entry).unwrap_or(0);
            let told = if seq > place.seq { tell(app, entry).await } else { None };
            place = Place { next: offset + 1, seq: place.seq.max(seq) };
            if let Some(at) = at.places.get_mut(partition) {
                *at = place;
            }
            if let Some(told) = told {
                let event = LiveEvent::new(told, at.clone(), (partition, *offset));
                events.push(Arc::new(event));
            }
        }
        place.next = batch.next.min(to).max(place.next);
        self.set(partition, place);
        if place.next >= to {
            self.left.pop_front();
        }
        Ok(Some(events))
    }

    fn set(&mut self, partition: usize, place: Place) {
        if let Some(at) = self.at.places.get_mut(partition) {
            *at = place;
        }
    }
}
