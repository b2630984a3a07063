//! Each client's share: one that floods is slowed down, and nobody else is.

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

/// The shares of all clients.
#[derive(Debug)]
pub(super) struct Shares<C: Clock = DefaultClock> {
    /// Messages a second; none: any number.
    quota: Option<Quota>,
    /// One for all: making one asks the processor what it can, which costs microseconds on a virtual
    /// machine.
    clock: C,
    clients: Mutex<HashMap<Arc<str>, Arc<Limiter<C>>>>,
}

impl Shares {
    /// So many messages a second of each client, and as many more at once; 0: any number.
    pub fn new(per_second: u32) -> Self {
        Self::with_clock(per_second, DefaultClock::default())
    }
}

/// Of a clock that can be copied, and not made: there is only the one.
impl<C: Clock + Clone> Shares<C> {
    fn with_clock(per_second: u32, clock: C) -> Self {
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self { quota, clock, clients: Mutex::default() }
    }

    /// Waits until a client's next message is within its share. Its connection is read no further
    /// meanwhile, so it is the device that waits.
    pub async fn wait(&self, client: &Arc<str>) {
        let Some(quota) = self.quota else { return };
        let limiter = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let limiter = clients.entry(Arc::clone(client));
            let new = || Arc::new(RateLimiter::direct_with_clock(quota, self.clock.clone()));
            Arc::clone(limiter.or_insert_with(new))
        };
        while let Err(not_before) = limiter.check() {
            metrics::counter!("acuvim_mqtt_slowed_total").increment(1);
            tokio::time::sleep(not_before.wait_time_from(self.clock.now())).await;
        }
    }

    /// Lets go of a client that is gone.
    pub fn forget(&self, client: &str) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn all_clients_are_measured_by_the_one_clock_that_was_given() {
        let clock = FakeRelativeClock::default();
        let shares = Shares::with_clock(2, clock.clone());
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        for client in [&one, &one, &two, &two] {
            shares.wait(client).await;
        }
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, shares.wait(&one)).await.is_err(), "no time has passed");
        clock.advance(Duration::from_secs(1));
        shares.wait(&one).await;
        shares.wait(&two).await;
    }

    #[tokio::test]
    async fn one_that_floods_waits_and_others_do_not() {
        let shares = Shares::new(50);
        let (loud, calm): (Arc<str>, Arc<str>) = ("loud".into(), "calm".into());
        let begun = Instant::now();
        for _ in 0..70 {
            shares.wait(&loud).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        let begun = Instant::now();
        shares.wait(&calm).await;
        assert!(begun.elapsed() < Duration::from_millis(100));
        shares.forget("loud");
        Shares::new(0).wait(&loud).await;
    }
}
