//! Login throttling: whoever keeps guessing waits ever longer, and nobody else does. Accounts are never locked,
//! so nobody can lock out others.
//!
//! An attempt counts from before its password is hashed, so that many attempts at once are not checked more
//! often than the same number one after another. Attempts beyond the bound wait for the outcome of those before
//! them: a right password that is sent many times at once is accepted each time.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use acuvim_schemas::address::network;

/// How many wrong passwords have no wait behind them, and the longest wait behind further ones.
#[derive(Debug, Clone, Copy)]
struct Bound {
    free: u32,
    longest: Duration,
}

/// The bound of one name from one address.
const OF_NAME: Bound = Bound { free: 5, longest: Duration::from_secs(60) };

/// The bound of all names from one address. Many people may share an address: so the bound is high and the wait
/// short, and names that have logged in from there before don't wait for the others at all.
const OF_ADDRESS: Bound = Bound { free: 500, longest: FIRST };

/// Logins of one address that are checked or wait to be, so that other addresses get their turn.
const AT_ONCE: u32 = 128;

/// The wait after the first wrong password beyond the bound. It doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);

/// How long a wrong password is remembered.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// Pairs of address and name that are remembered; the oldest go first.
const MOST: usize = 10_000;

/// Characters of a name that are compared: no user's name is longer.
const NAME: usize = 100;

#[derive(Debug, Clone, Copy)]
struct Attempts {
    wrong: u32,
    /// Attempts whose password is being checked.
    pending: u32,
    /// When the last wrong password came.
    last: Instant,
}

impl Attempts {
    fn next(&self, bound: Bound, now: Instant) -> Next {
        let wrong = if self.is_over(now) { 0 } else { self.wrong };
        if wrong.saturating_add(self.pending) < bound.free {
            return Next::Go;
        }
        if self.pending > 0 {
            return Next::Behind;
        }
        let over = wrong.saturating_sub(bound.free);
        let wait = FIRST.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX));
        let until = self.last + wait.min(bound.longest);
        match until.checked_duration_since(now).filter(|wait| !wait.is_zero()) {
            Some(wait) => Next::Wait(wait),
            None => Next::Go,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= REMEMBERED
    }
}

/// What an attempt has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Be checked now.
    Go,
    /// Wait for the outcome of those that are being checked.
    Behind,
    /// Be refused until so much time has passed.
    Wait(Duration),
}

/// An address with a name, or with none for all names.
type Key = (IpAddr, Option<String>);

#[derive(Debug, Default)]
struct Known {
    attempts: HashMap<Key, Attempts>,
    at_once: HashMap<IpAddr, u32>,
    /// When a name's password was last right, by address.
    right: HashMap<Key, Instant>,
}

impl Known {
    fn bounds(&self, address: IpAddr, name: &str) -> Vec<(Key, Bound)> {
        let pair = (address, Some(name.to_owned()));
        let is_known = self.right.contains_key(&pair);
        let all = (!is_known).then_some(((address, None), OF_ADDRESS));
        std::iter::once((pair, OF_NAME)).chain(all).collect()
    }

    fn next(&self, bounds: &[(Key, Bound)], now: Instant) -> Next {
        let of = |(key, bound): &(Key, Bound)| {
            self.attempts.get(key).map_or(Next::Go, |attempts| attempts.next(*bound, now))
        };
        bounds.iter().map(of).find(|next| *next != Next::Go).unwrap_or(Next::Go)
    }

    fn begin(&mut self, key: &Key, now: Instant) {
        if !self.attempts.contains_key(key) {
            make_room(&mut self.attempts, now);
        }
        let none = Attempts { wrong: 0, pending: 0, last: now };
        self.attempts.entry(key.clone()).or_insert(none).pending += 1;
    }

    fn settle(&mut self, key: &Key, outcome: Outcome) {
        let Some(of) = self.attempts.get_mut(key) else { return };
        of.pending = of.pending.saturating_sub(1);
        match outcome {
            Outcome::Wrong(now) => {
                let before = if of.is_over(now) { 0 } else { of.wrong };
                (of.wrong, of.last) = (before.saturating_add(1), now);
            }
            // A right password of one name does not excuse wrong ones of other names.
            Outcome::Right(_) if key.1.is_some() => of.wrong = 0,
            Outcome::Right(_) | Outcome::Unknown => {}
        }
        if of.wrong == 0 && of.pending == 0 {
            self.attempts.remove(key);
        }
    }

    fn remember(&mut self, key: &Key, now: Instant) {
        if self.right.len() >= MOST
            && let Some(oldest) =
                self.right.iter().min_by_key(|(_, at)| **at).map(|(k, _)| k.clone())
        {
            self.right.remove(&oldest);
        }
        self.right.insert(key.clone(), now);
    }
}

/// Throttles logins by address and name.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    known: Mutex<Known>,
    settled: Notify,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// It broke off before it was known.
    Unknown,
    Wrong(Instant),
    Right(Instant),
}

/// One of the logins that an address may have at once, until it is dropped.
#[derive(Debug)]
struct Slot<'a> {
    throttle: &'a Throttle,
    address: IpAddr,
}

impl Drop for Slot<'_> {
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

/// An attempt that is being checked, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    slot: Slot<'a>,
    keys: Vec<Key>,
    outcome: Outcome,
}

impl Turn<'_> {
    /// The password is wrong.
    pub fn failed(mut self, now: Instant) {
        self.outcome = Outcome::Wrong(now);
    }

    /// The password is right: the wrong ones before are forgotten for this name.
    pub fn succeeded(mut self, now: Instant) {
        self.outcome = Outcome::Right(now);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let throttle = self.slot.throttle;
        let mut known = throttle.known();
        for key in &self.keys {
            known.settle(key, self.outcome);
        }
        if let (Outcome::Right(now), Some(pair)) = (self.outcome, self.keys.first()) {
            known.remember(pair, now);
        }
        drop(known);
        throttle.settled.notify_waiters();
    }
}

impl Throttle {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an attempt of this address at this name may be checked. An error says how long the client
    /// has to wait instead.
    pub async fn admit(&self, address: IpAddr, name: &str) -> Result<Turn<'_>, Duration> {
        let mut slot = self.slot(network(address))?;
        loop {
            // Created before the check, so that an outcome right after the check is not missed.
            let settled = self.settled.notified();
            slot = match self.check(slot, name, Instant::now())? {
                Checked::Turn(turn) => return Ok(turn),
                Checked::Behind(slot) => slot,
            };
            settled.await;
        }
    }

    fn slot(&self, address: IpAddr) -> Result<Slot<'_>, Duration> {
        let mut known = self.known();
        let at_once = known.at_once.entry(address).or_default();
        if *at_once >= AT_ONCE {
            return Err(FIRST);
        }
        *at_once += 1;
        Ok(Slot { throttle: self, address })
    }

    fn check<'a>(
        &'a self,
        slot: Slot<'a>,
        name: &str,
        now: Instant,
    ) -> Result<Checked<'a>, Duration> {
        let name: String = name.to_lowercase().chars().take(NAME).collect();
        let mut known = self.known();
        let bounds = known.bounds(slot.address, &name);
        let next = known.next(&bounds, now);
        if next == Next::Go {
            bounds.iter().for_each(|(key, _)| known.begin(key, now));
        }
        // Dropping a slot takes the lock again.
        drop(known);
        match next {
            Next::Go => {
                let keys = bounds.into_iter().map(|(key, _)| key).collect();
                Ok(Checked::Turn(Turn { slot, keys, outcome: Outcome::Unknown }))
            }
            Next::Behind => Ok(Checked::Behind(slot)),
            Next::Wait(wait) => Err(wait),
        }
    }
}

/// What a check found.
enum Checked<'a> {
    Turn(Turn<'a>),
    /// Attempts before this one are still being checked.
    Behind(Slot<'a>),
}

fn make_room(attempts: &mut HashMap<Key, Attempts>, now: Instant) {
    if attempts.len() < MOST {
        return;
    }
    attempts.retain(|_, a| a.pending > 0 || !a.is_over(now));
    let settled = attempts.iter().filter(|(_, a)| a.pending == 0);
    if attempts.len() >= MOST
        && let Some(oldest) = settled.min_by_key(|(_, a)| a.last).map(|(k, _)| k.clone())
    {
        attempts.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const GOOD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn check<'a>(
        throttle: &'a Throttle,
        address: IpAddr,
        name: &str,
        now: Instant,
    ) -> Result<Checked<'a>, Duration> {
        let slot = throttle.slot(network(address))?;
        throttle.check(slot, name, now)
    }

    fn turn<'a>(throttle: &'a Throttle, address: IpAddr, name: &str, now: Instant) -> Turn<'a> {
        match look(throttle, address, name, now) {
            Ok(Checked::Turn(turn)) => turn,
            Ok(Checked::Behind(_)) => panic!("{name} is behind others"),
            Err(wait) => panic!("{name} waits for {wait:?}"),
        }
    }

    fn wait(throttle: &Throttle, address: IpAddr, name: &str, now: Instant) -> Option<Duration> {
        look(throttle, address, name, now).err()
    }

    #[test]
    fn who_guesses_waits_and_nobody_else() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..OF_NAME.free {
            turn(&throttle, BAD, "admin", now).failed(now);
        }
        assert_eq!(wait(&throttle, BAD, "Admin", now), Some(FIRST));
        assert_eq!(wait(&throttle, GOOD, "admin", now), None, "another address");
        assert_eq!(wait(&throttle, BAD, "other", now), None, "another name");
        let mut later = now;
        for _ in 0..10 {
            later += OF_NAME.longest;
            turn(&throttle, BAD, "admin", later).failed(later);
        }
        let longest = Some(OF_NAME.longest);
        assert_eq!(wait(&throttle, BAD, "admin", later), longest, "and never for good");
        later += OF_NAME.longest;
        turn(&throttle, BAD, "admin", later).succeeded(later);
        for _ in 0..OF_NAME.free {
            turn(&throttle, BAD, "admin", later).failed(later);
        }
    }

    #[test]
    fn of_many_at_once_no_more_are_checked_than_one_after_another() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let mut turns: Vec<_> =
            (0..OF_NAME.free).map(|_| turn(&throttle, BAD, "admin", now)).collect();
        let behind = look(&throttle, BAD, "admin", now);
        assert!(matches!(behind, Ok(Checked::Behind(_))), "it waits for what becomes of them");
        drop(behind);
        // One that breaks off has shown nobody anything.
        turns.pop();
        turns.push(turn(&throttle, BAD, "admin", now));
        turns.into_iter().for_each(|turn| turn.failed(now));
        assert_eq!(wait(&throttle, BAD, "admin", now), Some(FIRST));
        // Behind the wait it is one at a time.
        let one = turn(&throttle, BAD, "admin", now + FIRST);
        let other = look(&throttle, BAD, "admin", now + FIRST);
        assert!(matches!(other, Ok(Checked::Behind(_))));
        drop((one, other));
        assert!(throttle.known().at_once.is_empty());
    }

    #[tokio::test]
    async fn a_right_password_that_is_shown_many_times_at_once_is_right_each_time() {
        let throttle = Throttle::default();
        let login = async || {
            let turn = throttle.admit(GOOD, "admin").await.expect("a turn");
            tokio::task::yield_now().await;
            turn.succeeded(Instant::now());
        };
        let logins = (0..AT_ONCE).map(|_| login());
        futures::future::join_all(logins).await;
        assert!(throttle.known().attempts.is_empty());
    }

    #[test]
    fn an_address_that_tries_many_names_waits_too_and_takes_no_others_turn() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        turn(&throttle, v6(3), "known", now).succeeded(now);
        for n in 0..OF_ADDRESS.free {
            turn(&throttle, v6(1), &format!("name{n}"), now).failed(now);
        }
        assert_eq!(wait(&throttle, v6(2), "another", now), Some(FIRST), "one network is one");
        assert_eq!(wait(&throttle, v6(2), "known", now), None, "it was right there before");
        let turns: Vec<_> =
            (0..AT_ONCE).map(|n| turn(&throttle, GOOD, &format!("name{n}"), now)).collect();
        assert!(wait(&throttle, GOOD, "a", now).is_some());
        assert!(wait(&throttle, BAD, "a", now).is_none());
        drop(turns);
        assert!(wait(&throttle, GOOD, "a", now).is_none());
        assert!(throttle.known().at_once.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..u32::try_from(MOST / 2).expect("small") + 50 {
            let address = IpAddr::from(n.to_be_bytes());
            turn(&throttle, address, &"admin".repeat(100), now).failed(now);
        }
        let mut known = throttle.known();
        for n in 0..MOST + 50 {
            known.remember(&(GOOD, Some(n.to_string())), now);
        }
        assert!(known.attempts.len() <= MOST && known.right.len() <= MOST);
        let longest = known.attempts.keys().filter_map(|(_, name)| name.as_ref()).map(String::len);
        assert_eq!(longest.max(), Some(NAME));
    }
}
