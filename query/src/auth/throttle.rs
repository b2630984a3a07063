//! Login throttling: who keeps guessing waits ever longer, and nobody else does. There is no lock on
//! an account, so nobody can be locked out by others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Wrong passwords that cost nothing but the time of their check.
const FREE: u32 = 5;

/// The wait after the next one, which doubles with each, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// How long a wrong password is remembered.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// Pairs of address and name that are remembered; the oldest go first.
const MOST: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// Until when the next try must wait.
    fn until(&self) -> Option<Instant> {
        let over = self.count.checked_sub(FREE)?;
        let wait = FIRST.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX)).min(LONGEST);
        Some(self.last + wait)
    }
}

/// Remembers wrong passwords.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<HashMap<(IpAddr, String), Failures>>);

impl Throttle {
    /// Whether this address may try this name now; else how long it must wait.
    pub fn check(&self, address: IpAddr, name: &str, now: Instant) -> Result<(), Duration> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = failures.get(&(address, name.to_lowercase())).and_then(Failures::until);
        match until.and_then(|until| until.checked_duration_since(now)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// A wrong password.
    pub fn failed(&self, address: IpAddr, name: &str, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST {
            failures.retain(|_, f| now.saturating_duration_since(f.last) < REMEMBERED);
        }
        if failures.len() >= MOST
            && let Some(oldest) =
                failures.iter().min_by_key(|(_, f)| f.last).map(|(k, _)| k.clone())
        {
            failures.remove(&oldest);
        }
        let entry = failures.entry((address, name.to_lowercase()));
        let of = entry.or_insert(Failures { count: 0, last: now });
        if now.saturating_duration_since(of.last) >= REMEMBERED {
            of.count = 0;
        }
        *of = Failures { count: of.count.saturating_add(1), last: now };
    }

    /// The right one: forgotten.
    pub fn succeeded(&self, address: IpAddr, name: &str) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&(address, name.to_lowercase()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_waits_and_nobody_else() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let (bad, good) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..FREE {
            assert_eq!(throttle.check(bad, "admin", now), Ok(()));
            throttle.failed(bad, "admin", now);
        }
        assert_eq!(throttle.check(bad, "Admin", now), Err(FIRST));
        assert_eq!(throttle.check(good, "admin", now), Ok(()), "another address");
        assert_eq!(throttle.check(bad, "other", now), Ok(()), "another name");
        for _ in 0..40 {
            throttle.failed(bad, "admin", now);
        }
        assert_eq!(throttle.check(bad, "admin", now), Err(LONGEST), "and never for good");
        assert_eq!(throttle.check(bad, "admin", now + LONGEST), Ok(()));
        throttle.succeeded(bad, "admin");
        assert_eq!(throttle.check(bad, "admin", now), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..u32::try_from(MOST).expect("small") + 50 {
            throttle.failed(IpAddr::from(n.to_be_bytes()), "admin", now);
        }
        assert!(throttle.0.lock().expect("lock").len() <= MOST);
    }
}
