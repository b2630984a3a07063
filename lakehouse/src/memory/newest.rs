//! The newest `ts` of every device: what "latest" means, and the first question of dedup.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use acuvim_schemas::{device::partition_of, time::Micros};

/// The newest `ts` per device, by partition. Shared: the stream moves it on, queries look it up.
#[derive(Debug, Clone)]
pub struct Newest {
    partitions: Arc<Vec<Shard>>,
    /// Up to where only what came since the start is known.
    floor: Arc<AtomicI64>,
}

/// The devices of one partition.
type Shard = RwLock<HashMap<Arc<str>, Micros>>;

impl Newest {
    /// Knows no device yet.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        let partitions = (0..partitions).map(|_| RwLock::default()).collect();
        Self { partitions: Arc::new(partitions), floor: Arc::new(AtomicI64::new(Micros::MIN)) }
    }

    /// The highest `ts` stored or in the tail.
    #[must_use]
    pub fn get(&self, device_id: &str) -> Option<Micros> {
        self.read(device_id, |devices| devices.get(device_id).copied())
    }

    /// Says that of what is as old as this, or older, not all is known: nobody who asks whether
    /// something is there may rely on it.
    pub fn know_from(&self, ts: Micros) {
        self.floor.fetch_max(ts, Ordering::Relaxed);
    }

    /// Whether something is newer than all that is stored of its device.
    #[must_use]
    pub fn is_newer(&self, device_id: &str, ts: Micros) -> bool {
        let floor = self.floor.load(Ordering::Relaxed);
        ts > floor && self.get(device_id).is_none_or(|newest| ts > newest)
    }

    /// Notes a stored reading; an older one changes nothing.
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

    /// Lets go of a partition's devices.
    pub fn forget(&self, partition: u32) {
        if let Some(shard) = usize::try_from(partition).ok().and_then(|p| self.partitions.get(p)) {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The partition that a device is in.
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
