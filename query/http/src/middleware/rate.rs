//! Limits on the rate of requests, by address and by user or key.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use acuvim_model::problem::Code;
use acuvim_wire::address::network;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use uuid::Uuid;

use crate::problem::ApiError;

/// A burst may be as large as this many seconds' requests.
const BURST: u32 = 5;

/// After this many requests the states of quiet addresses and users are dropped.
const SWEEP: u32 = 10_000;

/// Rate limiters; none where there is no limit.
#[derive(Debug)]
pub(crate) struct Rates {
    addresses: Option<DefaultKeyedRateLimiter<IpAddr>>,
    users: Option<DefaultKeyedRateLimiter<Uuid>>,
    since_sweep: AtomicU32,
}

fn quota(per_second: u32) -> Option<Quota> {
    let rate = NonZeroU32::new(per_second)?;
    Some(Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::new(BURST)?)))
}

impl Rates {
    pub fn new(per_address: u32, per_user: u32) -> Self {
        Self {
            addresses: quota(per_address).map(RateLimiter::keyed),
            users: quota(per_user).map(RateLimiter::keyed),
            since_sweep: AtomicU32::new(0),
        }
    }

    /// Counts a request of an address; an error says how long it has to wait.
    pub fn address(&self, address: IpAddr) -> Result<(), Duration> {
        // Two threads may both sweep, which only costs time; a lock would cost each request some.
        if self.since_sweep.fetch_add(1, Ordering::Relaxed) >= SWEEP {
            self.since_sweep.store(0, Ordering::Relaxed);
            self.addresses.iter().for_each(RateLimiter::retain_recent);
            self.users.iter().for_each(RateLimiter::retain_recent);
        }
        check(self.addresses.as_ref(), &network(address))
    }

    /// Counts a request of a user or key; an error says how long it has to wait.
    pub fn user(&self, id: Uuid) -> Result<(), Duration> {
        check(self.users.as_ref(), &id)
    }
}

fn check<K: std::hash::Hash + Eq + Clone>(
    limiter: Option<&DefaultKeyedRateLimiter<K>>,
    key: &K,
) -> Result<(), Duration> {
    let Some(limiter) = limiter else { return Ok(()) };
    limiter.check_key(key).map_err(|not| not.wait_time_from(limiter.clock().now()))
}

/// A 429 that says when to try again.
pub(crate) fn retry_after(wait: Duration, detail: &str) -> ApiError {
    // Rounded up: a client that comes again too early only extends its wait.
    let seconds = wait.as_secs() + 1;
    let mut error = ApiError::new(Code::TooManyRequests, format!("{detail}; wait {seconds} s"));
    error.retry_after = Some(seconds);
    error
}

#[cfg(test)]
mod tests;
