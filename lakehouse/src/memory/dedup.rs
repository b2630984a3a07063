//! Exact deduplication: of readings with the same device and `ts` only the first is stored.
//!
//! The decision is a pure function of a version of the lake and the records after it. A reading newer
//! than its device's newest is new, and one that equals it is a duplicate. An older one is looked up
//! among the stored times of its device and day. This module does no IO: [`Dedup::wanted`] says which
//! times the caller has to load first. They are loaded by device and day, because a logger that uploads
//! an old SD card must not load that day of all devices.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use acuvim_wire::time::{Micros, day_of};

use super::newest::Newest;

/// A device and a UTC day in days since 1970-01-01: the unit in which stored times are loaded.
pub type DeviceDay = (Arc<str>, i32);

/// Bounds on the memory of loaded times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupLimits {
    /// The most times that are kept after a batch.
    pub max_times: usize,
}

impl Default for DedupLimits {
    fn default() -> Self {
        Self { max_times: 2_000_000 }
    }
}

/// The deduplication of one partition.
#[derive(Debug)]
pub struct Dedup {
    newest: Newest,
    days: HashMap<DeviceDay, Day>,
    times: usize,
    /// Counts the batches, to find the days that were not used for longest.
    clock: u64,
    limits: DedupLimits,
}

#[derive(Debug, Default)]
struct Day {
    times: HashSet<Micros>,
    used: u64,
}

impl Dedup {
    /// Starts from the newest `ts` of every device of the partition.
    #[must_use]
    pub fn new(newest: Newest, limits: DedupLimits) -> Self {
        Self { newest, days: HashMap::new(), times: 0, clock: 0, limits }
    }

    /// The device days whose stored times must be loaded before these readings are judged.
    pub fn wanted<'a>(
        &self,
        readings: impl Iterator<Item = (&'a str, Micros)>,
    ) -> HashSet<DeviceDay> {
        // A reading is also compared with those before it in the same call.
        let mut newest: HashMap<&str, Micros> = HashMap::new();
        let mut wanted = HashSet::new();
        for (device, ts) in readings {
            let here = newest.get(device).copied();
            if here.is_none_or(|here| ts > here) && self.newest.is_newer(device, ts) {
                newest.insert(device, ts);
            } else if here != Some(ts) && self.newest.get(device) != Some(ts) {
                let key: DeviceDay = (device.into(), day_of(ts));
                if !self.days.contains_key(&key) {
                    wanted.insert(key);
                }
            }
        }
        wanted
    }

    /// For each reading, whether it is stored already, without regard to the others. Times that
    /// [`Dedup::wanted`] named must have been loaded.
    pub fn stored<'a>(&self, readings: impl Iterator<Item = (&'a str, Micros)>) -> Vec<bool> {
        readings.map(|(device, ts)| self.is_stored(device, ts)).collect()
    }

    fn is_stored(&self, device: &str, ts: Micros) -> bool {
        if self.newest.get(device) == Some(ts) {
            return true;
        }
        // Most readings are newer than anything stored, and need no lookup.
        let late = !self.newest.is_newer(device, ts);
        let day = || self.days.get(&(Arc::from(device), day_of(ts)));
        late && day().is_some_and(|day| day.times.contains(&ts))
    }

    /// Adds the stored times of a device day.
    pub fn load(&mut self, day: DeviceDay, times: impl IntoIterator<Item = Micros>) {
        let entry = self.days.entry(day).or_default();
        let before = entry.times.len();
        entry.times.extend(times);
        entry.used = self.clock;
        self.times += entry.times.len() - before;
    }

    /// Judges readings in log order: true means new, and counts as stored from then on. Times that
    /// [`Dedup::wanted`] named must have been loaded.
    pub fn judge<'a>(&mut self, readings: impl Iterator<Item = (&'a str, Micros)>) -> Vec<bool> {
        self.clock += 1;
        let verdicts = readings.map(|(device, ts)| self.is_new(device, ts)).collect();
        self.forget();
        verdicts
    }

    fn is_new(&mut self, device: &str, ts: Micros) -> bool {
        let newest = self.newest.get(device);
        if newest == Some(ts) {
            return false;
        }
        let late = !self.newest.is_newer(device, ts);
        let key: DeviceDay = (device.into(), day_of(ts));
        let new = match self.days.get_mut(&key) {
            Some(day) => {
                day.used = self.clock;
                let new = day.times.insert(ts);
                self.times += usize::from(new);
                new
            }
            // A late reading of a day that was not loaded. Treated as a duplicate: storing a reading
            // twice could not be corrected later.
            None => !late,
        };
        if new {
            self.newest.note(device, ts);
        }
        new
    }

    /// Drops the least recently used days once there are too many times. Down to half the limit, so that
    /// not every batch sorts all days.
    fn forget(&mut self) {
        if self.times <= self.limits.max_times {
            return;
        }
        let mut by_use: Vec<_> = self.days.iter().map(|(k, d)| (d.used, k.clone())).collect();
        by_use.sort_unstable();
        for (_, key) in by_use {
            if self.times <= self.limits.max_times / 2 {
                break;
            }
            if let Some(day) = self.days.remove(&key) {
                self.times -= day.times.len();
            }
        }
    }
}

#[cfg(test)]
mod tests;
