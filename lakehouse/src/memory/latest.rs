//! The latest reading of every device: the row with the highest `ts`, whenever it arrived.
//!
//! A reading whose `ts` lies ahead of its arrival comes from a device with a wrong clock. It is stored,
//! but it is never the latest: it would stay so until its time comes.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use acuvim_tables::Table;
use acuvim_wire::{device::partition_of, time::Micros};
use arrow::{
    array::{AsArray as _, RecordBatch, UInt32Array},
    compute::{interleave_record_batch, take_record_batch},
};

use crate::{
    batch::{column, times},
    error::Error,
};

/// How many rows more than twice the number of devices are held before the batches are compacted.
const SLACK: usize = 1024;

/// The most batches of a partition: a batch of one row takes almost as much memory as one of many.
const MAX_BATCHES: usize = 256;

/// The latest rows, by partition.
#[derive(Debug)]
pub struct Latest {
    partitions: Vec<RwLock<Shard>>,
    max_ahead: Micros,
}

/// The devices of one partition. Rows that were superseded stay in their batches until these are
/// compacted.
#[derive(Debug, Default)]
struct Shard {
    devices: HashMap<Arc<str>, RowPosition>,
    batches: Vec<RecordBatch>,
    /// The number of rows in all batches.
    rows: usize,
}

/// Where the latest row of a device is.
#[derive(Debug, Clone, Copy)]
struct RowPosition {
    ts: Micros,
    batch: usize,
    row: usize,
}

/// A row that may be the latest of its device.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    device: &'a str,
    ts: Micros,
    row: usize,
}

impl Latest {
    pub(super) fn new(partitions: u32, max_ahead: Micros) -> Self {
        Self { partitions: (0..partitions).map(|_| RwLock::default()).collect(), max_ahead }
    }

    /// The time of a device's latest reading.
    #[must_use]
    pub fn ts(&self, device: &str) -> Option<Micros> {
        let shard = self.shard_of(device).and_then(|shard| self.partitions.get(shard))?;
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        shard.devices.get(device).map(|position| position.ts)
    }

    /// The latest rows of some devices, in their order, with the columns of `telemetry`. Devices without
    /// a latest row are left out.
    pub fn rows<'a>(
        &self,
        devices: impl IntoIterator<Item = &'a str>,
    ) -> Result<RecordBatch, Error> {
        // All locks at once, so that the rows are from one moment. Writers take one lock each, so
        // this can't deadlock.
        let held: Vec<_> = self
            .partitions
            .iter()
            .map(|p| p.read().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let mut first_batches = Vec::with_capacity(held.len());
        let mut batches: Vec<&RecordBatch> = Vec::new();
        for shard in &held {
            first_batches.push(batches.len());
            batches.extend(&shard.batches);
        }
        let find = |device: &str| {
            let shard = self.shard_of(device)?;
            let position = held.get(shard)?.devices.get(device)?;
            Some((first_batches.get(shard)? + position.batch, position.row))
        };
        let rows: Vec<(usize, usize)> = devices.into_iter().filter_map(find).collect();
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Table::Telemetry.schema()));
        }
        Ok(interleave_record_batch(&batches, &rows)?)
    }

    /// All devices that have a latest row, in no particular order.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<str>> {
        let ids = |shard: &RwLock<Shard>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.devices.keys().cloned().collect::<Vec<_>>()
        };
        self.partitions.iter().flat_map(ids).collect()
    }

    /// Whether a device has a latest row.
    #[must_use]
    pub fn has(&self, device: &str) -> bool {
        self.ts(device).is_some()
    }

    /// Takes over the rows that are later than the known ones. Returns the devices that changed.
    pub(crate) fn note(&self, rows: &RecordBatch) -> Result<Vec<Arc<str>>, Error> {
        let mut by_shard: HashMap<usize, Vec<Candidate<'_>>> = HashMap::new();
        for candidate in self.candidates(rows)? {
            if let Some(shard) = self.shard_of(candidate.device) {
                by_shard.entry(shard).or_default().push(candidate);
            }
        }
        let mut changed = Vec::new();
        for (shard, candidates) in by_shard {
            if let Some(shard) = self.partitions.get(shard) {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                shard.take(rows, candidates, &mut changed)?;
            }
        }
        Ok(changed)
    }

    /// The latest row of each device within a batch.
    fn candidates<'a>(
        &self,
        rows: &'a RecordBatch,
    ) -> Result<impl Iterator<Item = Candidate<'a>> + use<'a>, Error> {
        let devices = column(rows, "device_id")?.as_string::<i32>();
        let pairs = times(rows, "ts")?.iter().zip(times(rows, "received_at")?);
        let mut latest: HashMap<&str, Candidate<'_>> = HashMap::new();
        for (row, (device, (ts, received))) in devices.iter().flatten().zip(pairs).enumerate() {
            if *ts > received.saturating_add(self.max_ahead) {
                continue;
            }
            let this = Candidate { device, ts: *ts, row };
            let known = latest.entry(device).or_insert(this);
            // Strictly later: of two readings with one time the first is stored, and the second is
            // a duplicate.
            if *ts > known.ts {
                *known = this;
            }
        }
        Ok(latest.into_values())
    }

    /// Drops the devices of a partition.
    pub(super) fn forget(&self, partition: u32) {
        if let Some(shard) = usize::try_from(partition).ok().and_then(|p| self.partitions.get(p)) {
            *shard.write().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }

    fn shard_of(&self, device: &str) -> Option<usize> {
        let count = u32::try_from(self.partitions.len()).ok()?;
        usize::try_from(partition_of(device.as_bytes(), count)).ok()
    }
}

impl Shard {
    fn take(
        &mut self,
        rows: &RecordBatch,
        mut candidates: Vec<Candidate<'_>>,
        changed: &mut Vec<Arc<str>>,
    ) -> Result<(), Error> {
        candidates.retain(|c| self.devices.get(c.device).is_none_or(|known| c.ts > known.ts));
        if candidates.is_empty() {
            return Ok(());
        }
        let wanted = candidates.iter().filter_map(|c| u32::try_from(c.row).ok());
        // Copied, because a slice would keep the whole batch of the tail in memory for one row.
        let batch = take_record_batch(rows, &UInt32Array::from_iter_values(wanted))?;
        for (row, candidate) in candidates.into_iter().enumerate() {
            let position = RowPosition { ts: candidate.ts, batch: self.batches.len(), row };
            let id = match self.devices.get_key_value(candidate.device) {
                Some((id, _)) => Arc::clone(id),
                None => candidate.device.into(),
            };
            self.devices.insert(Arc::clone(&id), position);
            changed.push(id);
        }
        self.rows += batch.num_rows();
        self.batches.push(batch);
        if self.rows > 2 * self.devices.len() + SLACK || self.batches.len() > MAX_BATCHES {
            self.compact()?;
        }
        Ok(())
    }

    /// Puts the latest rows into one batch, and drops all others.
    fn compact(&mut self) -> Result<(), Error> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let rows: Vec<(usize, usize)> = self.devices.values().map(|p| (p.batch, p.row)).collect();
        let whole = interleave_record_batch(&batches, &rows)?;
        for (row, position) in self.devices.values_mut().enumerate() {
            (position.batch, position.row) = (0, row);
        }
        self.rows = whole.num_rows();
        self.batches = vec![whole];
        Ok(())
    }
}

#[cfg(test)]
mod tests;
