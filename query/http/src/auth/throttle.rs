//! Login throttling: a client that keeps guessing waits ever longer, and no other client does. Accounts are
//! never locked, so nobody can lock out others.
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

use acuvim_wire::address::network;

/// How many wrong passwords cost no wait, and the longest wait after further ones.
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

/// The wait once the free wrong passwords are used up. It doubles with each further one.
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

/// The next thing that an attempt has to do.
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

/// Whether an attempt may be checked now.
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
mod tests;
