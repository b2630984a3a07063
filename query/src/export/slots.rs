//! The places for exports. An export lasts as long as its client takes, so a few clients that read little
//! or nothing could hold all places for hours: one that reads nothing for a while loses its place, and
//! where another export was refused meanwhile, so does one that reads little.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes a second that a client must take if another wants its place: less than any line has that
/// exports are fetched over.
const PACE: u64 = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct ExportSlots {
    places: Arc<Semaphore>,
    /// How long a client may take nothing.
    stall: Duration,
    /// When an export was last refused for want of a place.
    refused: Mutex<Option<Instant>>,
}

/// A place, for as long as an export runs.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<ExportSlots>,
    pace: Pace,
    _place: OwnedSemaphorePermit,
}

/// The client has gone, or reads so little that its place is taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl ExportSlots {
    pub fn new(exports: usize, stall: Duration) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(exports));
        Arc::new(Self { places, stall, refused: Mutex::default() })
    }

    /// A place, if there is one.
    pub fn enter(self: &Arc<Self>) -> Option<Slot> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            return None;
        };
        let pace = Pace::from(Instant::now());
        Some(Slot { slots: Arc::clone(self), pace, _place: place })
    }
}

impl Slot {
    /// Hands something to the client, and waits until there is room for it.
    pub async fn give<T>(
        &mut self,
        sender: &mpsc::Sender<T>,
        part: T,
        bytes: usize,
    ) -> Result<(), Gone> {
        let begun = Instant::now();
        let sent = sender.send_timeout(part, self.slots.stall).await;
        sent.map_err(|_| Gone)?;
        let now = Instant::now();
        self.pace.note(bytes, now.duration_since(begun));
        let refused = *self.slots.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match self.pace.is_too_slow(now, self.slots.stall, refused) {
            true => Err(Gone),
            false => Ok(()),
        }
    }
}

/// What a client has taken since a moment, and how long it was waited for.
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: u64,
    waited: Duration,
}

impl Pace {
    fn from(since: Instant) -> Self {
        Self { since, bytes: 0, waited: Duration::ZERO }
    }

    fn note(&mut self, bytes: usize, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.waited += waited;
    }

    /// Judged once in a while, and only if it was the client that was waited for and not the lake.
    fn is_too_slow(&mut self, now: Instant, every: Duration, refused: Option<Instant>) -> bool {
        let passed = now.duration_since(self.since);
        if passed < every {
            return false;
        }
        let little = u128::from(self.bytes) * 1000 < u128::from(PACE) * passed.as_millis();
        let wanted = refused.is_some_and(|at| at >= self.since);
        let slow = wanted && little && self.waited * 2 > passed;
        *self = Self::from(now);
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);

    #[test]
    fn who_reads_little_loses_a_place_that_another_wants() {
        let begun = Instant::now();
        let end = begun + EVERY;
        let slow = |bytes, waited, refused| {
            let mut pace = Pace::from(begun);
            pace.note(bytes, waited);
            assert!(!pace.is_too_slow(begun + EVERY / 2, EVERY, refused), "too early to say");
            pace.is_too_slow(end, EVERY, refused)
        };
        let wanted = Some(begun + EVERY / 3);
        let enough = usize::try_from(PACE * 60).expect("small");
        assert!(slow(enough - 1, EVERY, wanted));
        assert!(!slow(enough, EVERY, wanted), "it reads well enough");
        assert!(!slow(1, EVERY, None), "nobody else wants its place");
        assert!(!slow(1, EVERY / 4, wanted), "it was the lake that was slow");
        // What was refused before has had its turn.
        let mut pace = Pace::from(begun);
        assert!(!pace.is_too_slow(end, EVERY, wanted));
        pace.note(1, EVERY);
        assert!(!pace.is_too_slow(end + EVERY, EVERY, wanted));
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_makes_room_for_another() {
        let slots = ExportSlots::new(1, Duration::from_millis(100));
        let mut slot = slots.enter().expect("a place");
        let (sender, mut receiver) = mpsc::channel(1);
        assert_eq!(slot.give(&sender, 1, 1).await, Ok(()));
        assert!(slots.enter().is_none(), "there is one place");
        let stalled = tokio::spawn(async move { slot.give(&sender, 2, 1).await });
        assert_eq!(stalled.await.expect("it ends"), Err(Gone));
        assert!(slots.enter().is_some(), "the place is free");
        assert_eq!(receiver.recv().await, Some(1));
    }
}
