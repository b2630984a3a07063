//! The newest `ts` of every device, which decides most questions of deduplication.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use acuvim_wire::{device::partition_of, time::Micros};

/// The newest `ts` of every device, by partition. Clones share their state: the stream updates it,
/// queries read it.
#[derive(Debug, Clone)]
pub struct Newest {
    partitions: Arc<Vec<Shard>>,
    /// Of times up to this one only those since the start of the process are known.
    floor: Arc<AtomicI64>,
}

type Shard = RwLock<HashMap<Arc<str>, Micros>>;

impl Newest {
    /// Knows no device yet, of a log with this many partitions.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        let partitions = (0..partitions).map(|_| RwLock::default()).collect();
        Self { partitions: Arc::new(partitions), floor: Arc::new(AtomicI64::new(Micros::MIN)) }
    }

    /// The highest `ts` of a device in the tables and the tail.
    #[must_use]
    pub fn get(&self, device_id: &str) -> Option<Micros> {
        self.read(device_id, |devices| devices.get(device_id).copied())
    }

    /// Declares that times up to `ts` are known only in part, so that [`Self::is_newer`] does not answer
    /// from them.
    pub fn know_from(&self, ts: Micros) {
        // Only raised: partitions that are followed later must not make earlier times look known.
        self.floor.fetch_max(ts, Ordering::Relaxed);
    }

    /// Whether a time is certainly newer than all stored ones of its device.
    #[must_use]
    pub fn is_newer(&self, device_id: &str, ts: Micros) -> bool {
        let floor = self.floor.load(Ordering::Relaxed);
        ts > floor && self.get(device_id).is_none_or(|newest| ts > newest)
    }

    /// Records a time that is stored. An older one than the newest changes nothing.
    pub fn note(&self, device_id: &str, ts: Micros) {
        let Some(shard) = self.shard(device_id) else { return };
        let mut devices = shard.write().unwrap_or_else(PoisonError::into_inner);
        match devices.get_mut(device_id) {
            Some(newest) => *newest = ts.max(*newest),
            None => {
                devices.insert(device_id.into(), ts);
            }
        }
    }

    /// Drops the devices of a partition.
    pub fn forget(&self, partition: u32) {
        if let Some(shard) = usize::try_from(partition).ok().and_then(|p| self.partitions.get(p)) {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The partition of a device.
    #[must_use]
    pub fn partition(&self, device_id: &str) -> u32 {
        partition_of(device_id.as_bytes(), u32::try_from(self.partitions.len()).unwrap_or(u32::MAX))
    }

    fn shard(&self, device_id: &str) -> Option<&Shard> {
        self.partitions.get(usize::try_from(self.partition(device_id)).ok()?)
    }

    fn read<T>(
        &self,
        device_id: &str,
        f: impl FnOnce(&HashMap<Arc<str>, Micros>) -> Option<T>,
    ) -> Option<T> {
        let shard = self.shard(device_id)?;
        f(&shard.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
