//! Login throttling: who keeps guessing waits ever longer, and nobody else does. There is no lock on
//! an account, so nobody can be locked out by others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::guard::network;

/// Wrong passwords for one name that cost nothing but the time of their check; and for all names
/// from one address, behind which there may be many people.
const FREE: u32 = 5;
const FREE_OF_ADDRESS: u32 = 50;

/// Logins of one address that are checked or wait for it, at most: all others get their turn.
const AT_ONCE: u32 = 128;

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
    fn until(&self, free: u32) -> Option<Instant> {
        let over = self.count.checked_sub(free)?;
        let wait = FIRST.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX)).min(LONGEST);
        Some(self.last + wait)
    }
}

/// An address with a name, or with none for all of them.
type Key = (IpAddr, Option<String>);

#[derive(Debug, Default)]
struct Known {
    failures: HashMap<Key, Failures>,
    at_once: HashMap<IpAddr, u32>,
}

/// Remembers wrong passwords.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Known>);

/// A login's turn; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    throttle: &'a Throttle,
    address: IpAddr,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut known = self.throttle.known();
        if let Some(n) = known.at_once.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                known.at_once.remove(&self.address);
            }
        }
    }
}

impl Throttle {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this address may try this name now; else how long it must wait.
    pub fn admit(&self, address: IpAddr, name: &str, now: Instant) -> Result<Turn<'_>, Duration> {
        let (address, mut known) = (network(address), self.known());
        for (key, free) in keys(address, name) {
            let until = known.failures.get(&key).and_then(|failures| failures.until(free));
            if let Some(wait) = until.and_then(|until| until.checked_duration_since(now))
                && !wait.is_zero()
            {
                return Err(wait);
            }
        }
        let at_once = known.at_once.entry(address).or_default();
        if *at_once >= AT_ONCE {
            return Err(FIRST);
        }
        *at_once += 1;
        Ok(Turn { throttle: self, address })
    }

    /// A wrong password.
    pub fn failed(&self, address: IpAddr, name: &str, now: Instant) {
        let (address, mut known) = (network(address), self.known());
        let failures = &mut known.failures;
        for (key, _) in keys(address, name) {
            make_room(failures, now);
            let of = failures.entry(key).or_insert(Failures { count: 0, last: now });
            if now.saturating_duration_since(of.last) >= REMEMBERED {
                of.count = 0;
            }
            *of = Failures { count: of.count.saturating_add(1), last: now };
        }
    }

    /// The right one: forgotten for this name.
    pub fn succeeded(&self, address: IpAddr, name: &str) {
        self.known().failures.remove(&(network(address), Some(name.to_lowercase())));
    }
}

fn keys(address: IpAddr, name: &str) -> [(Key, u32); 2] {
    [((address, Some(name.to_lowercase())), FREE), ((address, None), FREE_OF_ADDRESS)]
}

fn make_room(failures: &mut HashMap<Key, Failures>, now: Instant) {
    if failures.len() < MOST {
        return;
    }
    failures.retain(|_, f| now.saturating_duration_since(f.last) < REMEMBERED);
    if failures.len() >= MOST
        && let Some(oldest) = failures.iter().min_by_key(|(_, f)| f.last).map(|(k, _)| k.clone())
    {
        failures.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(throttle: &Throttle, address: IpAddr, name: &str, now: Instant) -> Option<Duration> {
        throttle.admit(address, name, now).err()
    }

    #[test]
    fn who_guesses_waits_and_nobody_else() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let (bad, good) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..FREE {
            assert_eq!(wait(&throttle, bad, "admin", now), None);
            throttle.failed(bad, "admin", now);
        }
        assert_eq!(wait(&throttle, bad, "Admin", now), Some(FIRST));
        assert_eq!(wait(&throttle, good, "admin", now), None, "another address");
        assert_eq!(wait(&throttle, bad, "other", now), None, "another name");
        for _ in 0..40 {
            throttle.failed(bad, "admin", now);
        }
        assert_eq!(wait(&throttle, bad, "admin", now), Some(LONGEST), "and never for good");
        assert_eq!(wait(&throttle, bad, "admin", now + LONGEST), None);
        throttle.succeeded(bad, "admin");
        assert_eq!(wait(&throttle, bad, "admin", now), None);
    }

    #[test]
    fn an_address_that_tries_many_names_waits_too_and_takes_no_others_turn() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        for n in 0..FREE_OF_ADDRESS {
            throttle.failed(v6(1), &format!("name{n}"), now);
        }
        assert_eq!(wait(&throttle, v6(2), "another", now), Some(FIRST), "one network is one");
        let turns: Vec<_> = (0..AT_ONCE)
            .map(|_| throttle.admit(IpAddr::from([192, 0, 2, 9]), "a", now).expect("a turn"))
            .collect();
        assert!(wait(&throttle, IpAddr::from([192, 0, 2, 9]), "a", now).is_some());
        assert!(wait(&throttle, IpAddr::from([192, 0, 2, 8]), "a", now).is_none());
        drop(turns);
        assert!(wait(&throttle, IpAddr::from([192, 0, 2, 9]), "a", now).is_none());
        assert!(throttle.known().at_once.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..u32::try_from(MOST).expect("small") + 50 {
            throttle.failed(IpAddr::from(n.to_be_bytes()), "admin", now);
        }
        assert!(throttle.known().failures.len() <= MOST);
    }
}
