//! How much of a connection may be in memory before a packet is complete: little before the login, and
//! after it a part of a budget that all connections share; and how long a packet may stay incomplete.
//!
//! The broker crate reads into a buffer that grows with the packet, up to 4 MiB, and a websocket
//! message is assembled before the crate sees any of it. Without these limits, thousands of connections
//! that start packets and never finish them could take all memory.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// The largest MQTT packet that is read. Well above the limit on payloads, so that a payload over that limit
/// gets an answer instead of a disconnect, after which the device would send it again and again.
pub(super) const MAX_PACKET: usize = 4 << 20;

/// Bytes that a client may send before it has logged in: a CONNECT with a will, and a websocket handshake.
const BEFORE_LOGIN: usize = 32 << 10;

/// Bytes of an incomplete packet that count against no budget and may stay for ever: every connection has
/// buffers of that size anyway, and keep-alive ends idle ones.
const FREE: usize = 8 << 10;

/// How long a packet may stay incomplete, and how many bytes extend that by a second: slower than the slowest
/// modem.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const BYTES_PER_SECOND: usize = 512;

/// What a connection has sent of a packet that is not complete yet.
#[derive(Debug)]
pub(super) struct Unfinished {
    logged_in: AtomicBool,
    budget: Arc<Semaphore>,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    /// When they became more than [`FREE`].
    since: Option<Instant>,
    /// Their part of the budget.
    held: Option<OwnedSemaphorePermit>,
}

impl Unfinished {
    /// For a new connection. The budget has one permit for each byte.
    pub fn new(budget: Arc<Semaphore>, patience: Duration) -> Arc<Self> {
        let (logged_in, state) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Self { logged_in, budget, patience, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has logged in.
    pub fn logged_in(&self) {
        self.logged_in.store(true, Ordering::Relaxed);
        self.completed(0);
    }

    /// Counts received bytes; an error if they are too many.
    pub fn received(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state();
        state.bytes += bytes;
        if !self.logged_in.load(Ordering::Relaxed) {
            return match state.bytes > BEFORE_LOGIN {
                true => Err(too_much("more than a CONNECT has, before a login")),
                false => Ok(()),
            };
        }
        if state.bytes <= FREE {
            return Ok(());
        }
        // No packet is longer, so this is something else, such as websocket pings without end.
        if state.bytes > MAX_PACKET + BEFORE_LOGIN {
            return Err(too_much("more bytes than the largest packet, and no complete packet"));
        }
        state.since.get_or_insert_with(Instant::now);
        let held = state.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(state.bytes - held).unwrap_or(u32::MAX);
        let budget = Arc::clone(&self.budget);
        // Refused and not waited for: a connection that waits would hold what it has, and all of them could
        // wait for one another.
        let Ok(permit) = budget.try_acquire_many_owned(more) else {
            return Err(too_much("incomplete packets take all memory of mqtt.unfinished_mb"));
        };
        match &mut state.held {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    /// A packet is complete, and so many bytes of the next one are here already.
    pub fn completed(&self, begun: usize) {
        let mut state = self.state();
        // Before the login complete packets count as well, or a client could send small ones without end.
        if self.logged_in.load(Ordering::Relaxed) {
            *state = State { bytes: begun, since: None, held: None };
        }
    }

    /// When an incomplete packet is late; none if there is none, or only a small one.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        let extra = state.bytes.saturating_sub(FREE) / BYTES_PER_SECOND;
        let seconds = u64::try_from(extra).unwrap_or(u64::MAX);
        Some(state.since? + self.patience + Duration::from_secs(seconds))
    }
}

fn too_much(why: &'static str) -> io::Error {
    metrics::counter!("acuvim_mqtt_too_much_total").increment(1);
    io::Error::new(io::ErrorKind::OutOfMemory, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(budget: &Arc<Semaphore>) -> Arc<Unfinished> {
        Unfinished::new(Arc::clone(budget), Duration::from_secs(30))
    }

    fn reason(result: io::Result<()>) -> String {
        result.expect_err("an error").to_string()
    }

    #[test]
    fn before_the_login_there_is_room_for_a_connect() {
        let unfinished = connection(&Arc::new(Semaphore::new(0)));
        assert!(unfinished.received(BEFORE_LOGIN).is_ok());
        assert_eq!(unfinished.deadline(), None, "the login has a timeout of its own");
        assert!(reason(unfinished.received(1)).contains("before a login"));
    }

    #[test]
    fn complete_packets_before_the_login_do_not_make_room() {
        let unfinished = connection(&Arc::new(Semaphore::new(0)));
        assert!(unfinished.received(BEFORE_LOGIN).is_ok());
        unfinished.completed(0);
        assert!(unfinished.received(1).is_err());
    }

    #[test]
    fn small_packets_take_nothing_of_the_budget_and_have_no_deadline() {
        let budget = Arc::new(Semaphore::new(0));
        let unfinished = connection(&budget);
        unfinished.logged_in();
        assert!(unfinished.received(FREE).is_ok());
        assert_eq!(unfinished.deadline(), None);
        assert!(reason(unfinished.received(1)).contains("mqtt.unfinished_mb"));
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Arc::new(Semaphore::new(100_000));
        let (one, two) = (connection(&budget), connection(&budget));
        one.logged_in();
        two.logged_in();
        assert!(one.received(60_000).is_ok() && one.received(10_000).is_ok());
        assert_eq!(budget.available_permits(), 30_000);
        assert!(two.received(40_000).is_err());
        one.completed(9000);
        assert_eq!(
            budget.available_permits(),
            100_000,
            "the beginning of the next one is counted later"
        );
        assert!(one.received(1).is_ok());
        assert_eq!(budget.available_permits(), 100_000 - 9001);
        drop(one);
        assert_eq!(budget.available_permits(), 100_000);
    }

    #[test]
    fn bytes_that_never_make_a_packet_end_the_connection() {
        let unfinished = connection(&Arc::new(Semaphore::new(64 << 20)));
        unfinished.logged_in();
        assert!(unfinished.received(MAX_PACKET + BEFORE_LOGIN).is_ok());
        assert!(reason(unfinished.received(1)).contains("no complete packet"));
    }

    /// A login with a large CONNECT must not count against the first packet after it.
    #[test]
    fn the_login_begins_the_count_anew() {
        let budget = Arc::new(Semaphore::new(0));
        let unfinished = connection(&budget);
        assert!(unfinished.received(BEFORE_LOGIN).is_ok());
        unfinished.logged_in();
        assert!(unfinished.received(FREE).is_ok(), "as much as is free");
        assert!(unfinished.received(1).is_err());
    }

    /// What was refused is not taken from the others: the connection ends, and they go on.
    #[test]
    fn a_refused_connection_keeps_only_what_it_had() {
        let budget = Arc::new(Semaphore::new(50_000));
        let (one, two) = (connection(&budget), connection(&budget));
        one.logged_in();
        two.logged_in();
        assert!(one.received(20_000).is_ok());
        assert!(one.received(40_000).is_err());
        assert_eq!(budget.available_permits(), 30_000);
        assert!(two.received(30_000).is_ok());
        drop(one);
        assert_eq!(budget.available_permits(), 20_000);
    }

    #[test]
    fn the_deadline_grows_with_the_bytes() {
        let unfinished = connection(&Arc::new(Semaphore::new(64 << 20)));
        unfinished.logged_in();
        assert!(unfinished.received(FREE + 1).is_ok());
        let first = unfinished.deadline().expect("a deadline");
        assert!(unfinished.received(10 * BYTES_PER_SECOND).is_ok());
        let second = unfinished.deadline().expect("a deadline");
        assert_eq!(second - first, Duration::from_secs(10));
        unfinished.completed(0);
        assert_eq!(unfinished.deadline(), None);
    }
}
