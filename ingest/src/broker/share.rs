//! Each client's share: one that floods is slowed down, and nobody else is.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

type Limiter = RateLimiter<
    NotKeyed,
    InMemoryState,
    DefaultClock,
    NoOpMiddleware<<DefaultClock as governor::clock::Clock>::Instant>,
>;

/// The shares of all clients.
#[derive(Debug)]
pub(super) struct Shares {
    /// Messages a second; none: any number.
    quota: Option<Quota>,
    /// One for all: making one asks the processor what it can, which costs microseconds on a virtual
    /// machine.
    clock: DefaultClock,
    clients: Mutex<HashMap<Arc<str>, Arc<Limiter>>>,
}

impl Shares {
    /// So many messages a second of each client, and as many more at once; 0: any number.
    pub fn new(per_second: u32) -> Self {
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self { quota, clock: DefaultClock::default(), clients: Mutex::default() }
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
    use std::time::{Duration, Instant};

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
