//! The state of the partitions that a process follows.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use acuvim_wire::time::Micros;

use super::{
    arrivals::Arrivals,
    latest::Latest,
    newest::Newest,
    tail::{Tail, TailBatch},
};
use crate::error::Error;

/// Everything that is known in memory of the partitions that this process follows.
#[derive(Debug)]
pub(crate) struct LiveState {
    /// Partitions whose rows this process writes to the tables.
    owned: Mutex<BTreeSet<u32>>,
    pub tail: Arc<Tail>,
    pub latest: Latest,
    pub arrivals: Arrivals,
    /// The newest `ts` of each device's readings.
    pub newest: Newest,
    pub newest_heartbeats: Newest,
}

impl LiveState {
    /// Follows no partition yet.
    pub fn new(partitions: u32, max_ahead: Micros) -> Self {
        Self {
            owned: Mutex::default(),
            tail: Arc::new(Tail::new(partitions)),
            latest: Latest::new(partitions, max_ahead),
            arrivals: Arrivals::default(),
            newest: Newest::new(partitions),
            newest_heartbeats: Newest::new(partitions),
        }
    }

    /// Adds the rows of the next records of a partition to the tail, the latest and the arrivals.
    pub fn push(&self, partition: u32, batch: TailBatch) -> Result<(), Error> {
        // This can fail, so it comes first: the tail takes all rows of a batch or none.
        let changed = self.latest.note(&batch.rows.telemetry)?;
        let heartbeats = batch.rows.heartbeats.clone();
        self.tail.push(partition, batch);
        // Processes that serve no live feed would otherwise collect arrivals that nobody takes.
        match self.arrivals.has_listener() {
            true => self.arrivals.note(changed, &heartbeats),
            false => Ok(()),
        }
    }

    /// Drops what is known of a partition's devices.
    pub fn forget(&self, partition: u32) {
        self.latest.forget(partition);
        self.newest.forget(partition);
        self.newest_heartbeats.forget(partition);
    }

    /// Sets whether this process writes a partition.
    pub fn own(&self, partition: u32, own: bool) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        match own {
            true => owned.insert(partition),
            false => owned.remove(&partition),
        };
    }

    /// The partitions that this process writes.
    pub fn owned(&self) -> BTreeSet<u32> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
