//! Clients that take nothing: their readings wait once for all of them, so that a hundred of them cost
//! no more than one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::event::{EventKind, Reading};

/// The newest readings since the first of these clients stopped to take any.
#[derive(Debug)]
pub(crate) struct Behind {
    /// Devices of which it holds the newest at most.
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The clients, and what was counted when each of them fell behind.
    clients: HashMap<u64, Count>,
    newest: HashMap<(Arc<str>, EventKind), (u64, Arc<Reading>)>,
    now: Count,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// Readings that came.
    came: u64,
    /// Those of them that found no room.
    dropped: u64,
}

/// What a client that takes something again has to catch up with.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// The newest of each device.
    pub newest: Vec<Arc<Reading>>,
    /// Readings that a newer one took the place of.
    pub merged: u64,
    /// Readings that found no room.
    pub dropped: u64,
}

impl Behind {
    pub fn new(most: usize) -> Self {
        Self { most, inner: Mutex::default() }
    }

    /// Whether a client is behind.
    pub fn has(&self, client: u64) -> bool {
        self.lock().clients.contains_key(&client)
    }

    /// From now on a client's readings wait here.
    pub fn add(&self, client: u64) {
        let mut inner = self.lock();
        let now = inner.now;
        inner.clients.entry(client).or_insert(now);
    }

    /// Takes readings, if anybody is behind.
    pub fn put(&self, readings: &[Arc<Reading>]) {
        let mut inner = self.lock();
        if inner.clients.is_empty() {
            return;
        }
        for reading in readings {
            inner.now.came += 1;
            let came = inner.now.came;
            let key = (Arc::clone(&reading.device), reading.kind);
            let room = inner.newest.len() < self.most;
            match inner.newest.get_mut(&key) {
                Some(held) => *held = (came, Arc::clone(reading)),
                None if room => {
                    inner.newest.insert(key, (came, Arc::clone(reading)));
                }
                None => inner.now.dropped += 1,
            }
        }
    }

    /// A client takes something again, or is gone: what came since it fell behind.
    pub fn remove(&self, client: u64) -> Backlog {
        let mut inner = self.lock();
        let Some(since) = inner.clients.remove(&client) else { return Backlog::default() };
        let mut newest: Vec<(u64, Arc<Reading>)> =
            inner.newest.values().filter(|(came, _)| *came > since.came).cloned().collect();
        newest.sort_unstable_by_key(|(came, _)| *came);
        let newest: Vec<_> = newest.into_iter().map(|(_, reading)| reading).collect();
        let dropped = inner.now.dropped - since.dropped;
        let told = dropped + newest.len() as u64;
        let merged = (inner.now.came - since.came).saturating_sub(told);
        if inner.clients.is_empty() {
            inner.newest = HashMap::new();
        }
        Backlog { newest, merged, dropped }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(from: u64, devices: &[&str]) -> Vec<Arc<Reading>> {
        let one = |(n, device): (u64, &&str)| {
            Arc::new(Reading::heartbeat((*device).into(), (from + n).to_string()))
        };
        (0..).zip(devices).map(one).collect()
    }

    fn told(backlog: &Backlog) -> Vec<String> {
        let said = |r: &Arc<Reading>| String::from_utf8_lossy(&r.sse(None)).into_owned();
        let number = |text: String| {
            let digits = text.rsplit(':').next().unwrap_or_default();
            digits.chars().filter(char::is_ascii_digit).collect()
        };
        backlog.newest.iter().map(said).map(number).collect()
    }

    #[test]
    fn each_catches_up_with_what_came_since_it_fell_behind() {
        let behind = Behind::new(3);
        behind.put(&readings(0, &["a"]));
        assert!(behind.remove(1).newest.is_empty(), "nobody was behind");
        behind.add(1);
        behind.put(&readings(10, &["a", "b", "a"]));
        behind.add(2);
        behind.add(1);
        assert!(behind.has(1) && behind.has(2) && !behind.has(3));
        behind.put(&readings(20, &["c", "d", "a"]));
        let second = behind.remove(2);
        assert_eq!((told(&second), second.merged, second.dropped), (list(&["20", "22"]), 0, 1));
        let first = behind.remove(1);
        assert_eq!(told(&first), ["11", "20", "22"]);
        assert_eq!((first.merged, first.dropped), (2, 1), "a twice, d once");
        assert!(behind.lock().newest.is_empty(), "nothing is held for nobody");
        behind.add(1);
        assert!(behind.remove(1).newest.is_empty());
    }

    fn list(all: &[&str]) -> Vec<String> {
        all.iter().map(|&text| text.to_owned()).collect()
    }
}
