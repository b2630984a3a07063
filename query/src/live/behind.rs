//! Clients that take nothing: their readings wait once for all of them, so that a hundred of them cost
//! no more than one.

use std::{
    collections::{HashMap, HashSet},
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
    /// The clients, and how many readings had come when each of them fell behind.
    clients: HashMap<u64, u64>,
    newest: HashMap<(Arc<str>, EventKind), (u64, Arc<Reading>)>,
    came: u64,
}

/// What readings have come to.
#[derive(Debug)]
pub(crate) struct Put {
    /// The clients that are behind: these get what is here once they take something again.
    pub behind: HashSet<u64>,
    /// What found no room here, and is for them too.
    pub rest: Vec<Arc<Reading>>,
}

impl Behind {
    pub fn new(most: usize) -> Self {
        Self { most, inner: Mutex::default() }
    }

    /// Takes readings, if anybody is behind. Of all clients that there are, these take nothing now:
    /// whoever stops to be one of them comes to [`Self::remove`] afterwards, and misses nothing.
    pub fn put(
        &self,
        there: &[u64],
        take_nothing: impl Iterator<Item = u64>,
        readings: &[Arc<Reading>],
    ) -> Put {
        let mut inner = self.lock();
        let (came, mut rest) = (inner.came, Vec::new());
        for client in take_nothing {
            inner.clients.entry(client).or_insert(came);
        }
        // One may have gone just before it was added.
        inner.clients.retain(|client, _| there.contains(client));
        if inner.clients.is_empty() {
            inner.newest = HashMap::new();
            return Put { behind: HashSet::new(), rest };
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
        Put { behind: inner.clients.keys().copied().collect(), rest }
    }

    /// A client takes something again, or is gone: the newest of each device since it fell behind.
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

    fn told(all: &[Arc<Reading>]) -> Vec<String> {
        let said = |r: &Arc<Reading>| String::from_utf8_lossy(&r.sse(None)).into_owned();
        let number = |text: String| {
            let digits = text.rsplit(':').next().unwrap_or_default();
            digits.chars().filter(char::is_ascii_digit).collect()
        };
        all.iter().map(said).map(number).collect()
    }

    #[test]
    fn each_catches_up_with_what_came_since_it_fell_behind() {
        let behind = Behind::new(3);
        let put = |there: &[u64], stuck: &[u64], from, devices: &[&str]| {
            let put = behind.put(there, stuck.iter().copied(), &readings(from, devices));
            (put.behind.len(), told(&put.rest))
        };
        let none = Vec::<String>::new();
        assert_eq!(put(&[1, 2, 3], &[], 0, &["a"]), (0, none.clone()), "nobody is behind");
        assert_eq!(put(&[1, 2, 3], &[1], 10, &["a", "b", "a"]), (1, none.clone()));
        assert_eq!(put(&[1, 2, 3], &[1, 2], 20, &["c", "d", "a"]), (2, vec!["21".to_owned()]));
        assert_eq!(told(&behind.remove(2)), ["20", "22"]);
        assert_eq!(told(&behind.remove(1)), ["11", "20", "22"], "the first of a is not told");
        assert!(behind.lock().newest.is_empty(), "nothing is held for nobody");
        assert!(behind.remove(3).is_empty());
        // One that went away unseen is not held for.
        assert_eq!(put(&[1], &[1, 9], 30, &["a"]), (1, none.clone()));
        assert_eq!(put(&[], &[], 40, &["a"]), (0, none));
        assert!(behind.lock().newest.is_empty());
    }
}
