//! Rate limits per client: a client that floods is slowed down, and no other one notices.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The rate limiters of all clients.
#[derive(Debug)]
pub(super) struct ClientLimits<C: Clock = DefaultClock> {
    /// Messages a second; none: no limit.
    quota: Option<Quota>,
    /// Shared by all limiters: creating a clock probes the CPU, which costs microseconds on a virtual
    /// machine.
    clock: C,
    clients: Mutex<HashMap<Arc<str>, Arc<Limiter<C>>>>,
}

impl ClientLimits {
    /// Allows each client so many messages a second, and as many more in a burst; 0: no limit.
    pub fn new(per_second: u32) -> Self {
        Self::with_clock(per_second, DefaultClock::default())
    }
}

// `Clone` and not `Default`, so that no limiter can create a clock of its own.
impl<C: Clock + Clone> ClientLimits<C> {
    fn with_clock(per_second: u32, clock: C) -> Self {
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self { quota, clock, clients: Mutex::default() }
    }

    /// Waits until the client may send its next message. Its connection is not read meanwhile, so the
    /// backpressure reaches the device.
    pub async fn wait(&self, client: &Arc<str>) {
        let Some(quota) = self.quota else { return };
        // The lock is released before the wait, or one client that is slowed down would hold up all others.
        let limiter = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let limiter = clients.entry(Arc::clone(client));
            let new = || Arc::new(RateLimiter::direct_with_clock(quota, self.clock.clone()));
            Arc::clone(limiter.or_insert_with(new))
        };
        // Asked again after the pause: another connection of the same client may have been faster.
        while let Err(not_before) = limiter.check() {
            metrics::counter!("acuvim_mqtt_slowed_total").increment(1);
            tokio::time::sleep(not_before.wait_time_from(self.clock.now())).await;
        }
    }

    /// Drops the limiter of a client that has disconnected.
    pub fn forget(&self, client: &str) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::time::{Duration, Instant};

    /// Whether the client may send at once.
    async fn is_free<C: Clock + Clone>(limits: &ClientLimits<C>, client: &Arc<str>) -> bool {
        // The future is polled once at least, and that is enough for a client within its limit.
        tokio::time::timeout(Duration::ZERO, limits.wait(client)).await.is_ok()
    }

    #[tokio::test]
    async fn all_limiters_share_the_clock() {
        let clock = FakeRelativeClock::default();
        let limits = ClientLimits::with_clock(2, clock.clone());
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        for client in [&one, &one, &two, &two] {
            assert!(is_free(&limits, client).await);
        }
        assert!(!is_free(&limits, &one).await, "no time has passed");
        clock.advance(Duration::from_secs(1));
        assert!(is_free(&limits, &one).await && is_free(&limits, &two).await);
    }

    #[tokio::test]
    async fn a_flooding_client_waits_and_others_do_not() {
        let limits = ClientLimits::new(50);
        let (loud, calm): (Arc<str>, Arc<str>) = ("loud".into(), "calm".into());
        let begun = Instant::now();
        for _ in 0..70 {
            limits.wait(&loud).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        assert!(is_free(&limits, &calm).await);
    }

    #[tokio::test]
    async fn a_client_that_comes_back_starts_with_a_full_burst() {
        let limits = ClientLimits::with_clock(1, FakeRelativeClock::default());
        let client: Arc<str> = "one".into();
        assert!(is_free(&limits, &client).await && !is_free(&limits, &client).await);
        limits.forget("one");
        assert!(is_free(&limits, &client).await);
        assert!(limits.clients.lock().expect("unpoisoned").len() == 1, "one limiter a client");
    }

    #[tokio::test]
    async fn zero_is_no_limit() {
        let limits = ClientLimits::with_clock(0, FakeRelativeClock::default());
        let client: Arc<str> = "one".into();
        for _ in 0..1000 {
            assert!(is_free(&limits, &client).await);
        }
        assert!(limits.clients.lock().expect("unpoisoned").is_empty(), "and no memory");
    }
}
