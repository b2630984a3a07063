//! Slots for exports. An export lasts as long as its client reads, so a few clients that read little or
//! nothing could hold all slots for hours. A client that reads nothing for a while loses its slot; one
//! that reads too slowly loses it once another export was refused for want of a slot.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes a second that a client must read if another wants its slot: any line that exports are fetched
/// over can do that.
const PACE: u64 = 64 << 10;

/// The slots for exports.
#[derive(Debug)]
pub struct ExportSlots {
    permits: Arc<Semaphore>,
    /// How long a client may read nothing.
    stall: Duration,
    /// When an export was last refused for want of a slot.
    refused: Mutex<Option<Instant>>,
}

/// A slot, for as long as an export runs.
#[derive(Debug)]
pub struct ExportSlot {
    slots: Arc<ExportSlots>,
    pace: Pace,
    _permit: OwnedSemaphorePermit,
}

/// The client is gone, or reads so little that it lost its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientGone;

impl ExportSlots {
    /// `exports` slots, whose clients may read nothing for `stall`.
    #[must_use]
    pub fn new(exports: usize, stall: Duration) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(exports));
        Arc::new(Self { permits, stall, refused: Mutex::default() })
    }

    /// A slot, if one is free.
    pub fn enter(self: &Arc<Self>) -> Option<ExportSlot> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            return None;
        };
        let pace = Pace::from(Instant::now());
        Some(ExportSlot { slots: Arc::clone(self), pace, _permit: permit })
    }
}

impl ExportSlot {
    /// Sends a part to the client, once there is room for it.
    ///
    /// # Errors
    /// When the client is gone or has lost the slot.
    pub async fn send<T>(
        &mut self,
        sender: &mpsc::Sender<T>,
        part: T,
        bytes: usize,
    ) -> Result<(), ClientGone> {
        let begun = Instant::now();
        let sent = sender.send_timeout(part, self.slots.stall).await;
        sent.map_err(|_| ClientGone)?;
        let now = Instant::now();
        // A part that finds room at once waited for nobody: the lake is the slower side then.
        self.pace.add(bytes, now.duration_since(begun));
        let refused = *self.slots.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match self.pace.is_too_slow(now, self.slots.stall, refused) {
            true => Err(ClientGone),
            false => Ok(()),
        }
    }
}

/// How much a client has read since a moment, and how long it was waited for.
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

    fn add(&mut self, bytes: usize, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.waited += waited;
    }

    /// Looks at the pace once per `every` and starts a new measurement. A client is only too slow if it,
    /// and not the lake, was waited for most of the time.
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
    fn a_slow_reader_loses_a_slot_that_another_wants() {
        let begun = Instant::now();
        let end = begun + EVERY;
        let slow = |bytes, waited, refused| {
            let mut pace = Pace::from(begun);
            pace.add(bytes, waited);
            assert!(!pace.is_too_slow(begun + EVERY / 2, EVERY, refused), "too early to say");
            pace.is_too_slow(end, EVERY, refused)
        };
        let wanted = Some(begun + EVERY / 3);
        let enough = usize::try_from(PACE * 60).expect("small");
        assert!(slow(enough - 1, EVERY, wanted));
        assert!(!slow(enough, EVERY, wanted), "it reads well enough");
        assert!(!slow(1, EVERY, None), "nobody else wants its slot");
        assert!(!slow(1, EVERY / 4, wanted), "it was the lake that was slow");
        // A refusal before the measurement does not count.
        let mut pace = Pace::from(begun);
        assert!(!pace.is_too_slow(end, EVERY, wanted));
        pace.add(1, EVERY);
        assert!(!pace.is_too_slow(end + EVERY, EVERY, wanted));
    }

    #[test]
    fn each_measurement_begins_anew() {
        let begun = Instant::now();
        let wanted = Some(begun + EVERY * 3);
        let mut pace = Pace::from(begun);
        // A fast beginning does not make up for what follows.
        pace.add(usize::try_from(PACE * 600).expect("small"), EVERY);
        assert!(!pace.is_too_slow(begun + EVERY, EVERY, wanted));
        pace.add(1, EVERY);
        assert!(pace.is_too_slow(begun + EVERY * 2, EVERY, wanted));
        assert_eq!((pace.bytes, pace.waited), (0, Duration::ZERO));
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_noticed_at_once() {
        let slots = ExportSlots::new(2, Duration::from_secs(3600));
        let mut slot = slots.enter().expect("a slot");
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        assert_eq!(slot.send(&sender, 1, 1).await, Err(ClientGone));
        let _other = slots.enter().expect("another slot");
        assert!(slots.enter().is_none());
        drop(slot);
        assert!(slots.enter().is_some(), "a slot is free as soon as its export has ended");
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_makes_room_for_another() {
        let slots = ExportSlots::new(1, Duration::from_millis(100));
        let mut slot = slots.enter().expect("a slot");
        let (sender, mut receiver) = mpsc::channel(1);
        assert_eq!(slot.send(&sender, 1, 1).await, Ok(()));
        assert!(slots.enter().is_none(), "there is one slot");
        let stalled = tokio::spawn(async move { slot.send(&sender, 2, 1).await });
        assert_eq!(stalled.await.expect("it ends"), Err(ClientGone));
        assert!(slots.enter().is_some(), "the slot is free");
        assert_eq!(receiver.recv().await, Some(1));
    }
}
