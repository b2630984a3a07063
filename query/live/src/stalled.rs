//! Clients that accept nothing at the moment. Their readings wait in one place for all of them, so that a
//! hundred stalled clients cost no more memory than one.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::event::{EventKind, Reading};

/// The newest readings since the first of these clients stalled.
#[derive(Debug)]
pub(crate) struct StalledClients {
    /// Devices whose newest reading is kept, at most.
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The clients, and how many readings had arrived when each of them stalled.
    clients: HashMap<u64, u64>,
    newest: HashMap<(Arc<str>, EventKind), (u64, Arc<Reading>)>,
    came: u64,
}

/// What became of new readings.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The clients that are stalled: they get the kept readings once they accept something again.
    pub stalled: HashSet<u64>,
    /// Readings that found no room here, and have to be offered to these clients too.
    pub rest: Vec<Arc<Reading>>,
}

impl StalledClients {
    pub fn new(most: usize) -> Self {
        Self { most, inner: Mutex::default() }
    }

    /// Keeps readings, if any client is stalled. `connected` are all clients, `stalled` those of them that
    /// accept nothing now; one that goes on comes to [`Self::remove`] afterwards, and so misses nothing.
    pub fn keep(
        &self,
        connected: &[u64],
        stalled: impl Iterator<Item = u64>,
        readings: &[Arc<Reading>],
    ) -> Kept {
        let mut inner = self.lock();
        let (came, mut rest) = (inner.came, Vec::new());
        for client in stalled {
            // The first time counts: a client that is still stalled has missed everything since.
            inner.clients.entry(client).or_insert(came);
        }
        // A client may have gone just before it was added.
        inner.clients.retain(|client, _| connected.contains(client));
        if inner.clients.is_empty() {
            inner.newest = HashMap::new();
            return Kept { stalled: HashSet::new(), rest };
        }
        for reading in readings {
            inner.came += 1;
            let came = inner.came;
            let key = (Arc::clone(&reading.device), reading.kind);
            let room = inner.newest.len() < self.most;
            match inner.newest.get_mut(&key) {
                Some(held) => *held = (came, Arc::clone(reading)),
                None if room => {
                    inner.newest.insert(key, (came, Arc::clone(reading)));
                }
                None => rest.push(Arc::clone(reading)),
            }
        }
        Kept { stalled: inner.clients.keys().copied().collect(), rest }
    }

    /// A client accepts something again, or is gone. Answers with the newest reading of each device since
    /// it stalled.
    pub fn remove(&self, client: u64) -> Vec<Arc<Reading>> {
        let mut inner = self.lock();
        let Some(since) = inner.clients.remove(&client) else { return Vec::new() };
        let mut newest: Vec<(u64, Arc<Reading>)> =
            inner.newest.values().filter(|(came, _)| *came > since).cloned().collect();
        newest.sort_unstable_by_key(|(came, _)| *came);
        if inner.clients.is_empty() {
            inner.newest = HashMap::new();
        }
        newest.into_iter().map(|(_, reading)| reading).collect()
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

    fn numbers(all: &[Arc<Reading>]) -> Vec<String> {
        let text = |r: &Arc<Reading>| String::from_utf8_lossy(&r.sse(None)).into_owned();
        let number = |text: String| {
            let digits = text.rsplit(':').next().unwrap_or_default();
            digits.chars().filter(char::is_ascii_digit).collect()
        };
        all.iter().map(text).map(number).collect()
    }

    #[test]
    fn each_client_catches_up_with_what_came_since_it_stalled() {
        let clients = StalledClients::new(3);
        let keep = |connected: &[u64], stalled: &[u64], from, devices: &[&str]| {
            let kept = clients.keep(connected, stalled.iter().copied(), &readings(from, devices));
            (kept.stalled.len(), numbers(&kept.rest))
        };
        let none = Vec::<String>::new();
        assert_eq!(keep(&[1, 2, 3], &[], 0, &["a"]), (0, none.clone()), "no client is stalled");
        assert_eq!(keep(&[1, 2, 3], &[1], 10, &["a", "b", "a"]), (1, none.clone()));
        assert_eq!(keep(&[1, 2, 3], &[1, 2], 20, &["c", "d", "a"]), (2, vec!["21".to_owned()]));
        assert_eq!(numbers(&clients.remove(2)), ["20", "22"]);
        assert_eq!(
            numbers(&clients.remove(1)),
            ["11", "20", "22"],
            "the first reading of a came before"
        );
        assert!(clients.lock().newest.is_empty(), "nothing is kept for nobody");
        assert!(clients.remove(3).is_empty());
        // Nothing is kept for a client that has gone meanwhile.
        assert_eq!(keep(&[1], &[1, 9], 30, &["a"]), (1, none.clone()));
        assert_eq!(keep(&[], &[], 40, &["a"]), (0, none));
        assert!(clients.lock().newest.is_empty());
    }
}
