//! What has arrived since the live feed last asked: devices with a newer latest reading, and the newest
//! heartbeat of each device.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::array::{AsArray as _, RecordBatch};
use tokio::sync::Notify;

use crate::{
    batch::{column, times},
    error::Error,
};

/// What has arrived and was not taken yet. Keeps only the newest of each device, so a slow reader
/// can't make it grow beyond the fleet. Records nothing until the first [`Self::take`].
#[derive(Debug, Default)]
pub struct Arrivals {
    has_listener: AtomicBool,
    waiting: Mutex<Arrived>,
    some: Notify,
}

/// Readings and heartbeats that have arrived between two calls of [`Arrivals::take`].
#[derive(Debug, Default)]
pub struct Arrived {
    /// Devices with a newer latest reading, which is in [`crate::Latest`].
    pub readings: HashSet<Arc<str>>,
    /// The newest heartbeat of each device that sent one: a row of a batch of `heartbeats`.
    pub heartbeats: HashMap<Arc<str>, (RecordBatch, usize)>,
}

impl Arrived {
    fn is_empty(&self) -> bool {
        self.readings.is_empty() && self.heartbeats.is_empty()
    }
}

impl Arrivals {
    /// Waits until something has arrived, and takes it.
    pub async fn take(&self) -> Arrived {
        self.has_listener.store(true, Ordering::Relaxed);
        loop {
            // `notify_one` keeps one permit, so what arrives between this look and the wait ends the wait.
            let arrived = std::mem::take(&mut *self.lock());
            if !arrived.is_empty() {
                return arrived;
            }
            self.some.notified().await;
        }
    }

    pub(super) fn has_listener(&self) -> bool {
        self.has_listener.load(Ordering::Relaxed)
    }

    pub(super) fn note(
        &self,
        readings: Vec<Arc<str>>,
        heartbeats: &RecordBatch,
    ) -> Result<(), Error> {
        if readings.is_empty() && heartbeats.num_rows() == 0 {
            return Ok(());
        }
        let devices = column(heartbeats, "device_id")?.as_string::<i32>();
        let all = times(heartbeats, "ts")?;
        let mut waiting = self.lock();
        waiting.readings.extend(readings);
        for (row, (device, ts)) in devices.iter().zip(all).enumerate() {
            let Some(device) = device else { continue };
            // One that was sent late, after an outage, must not hide a newer one.
            let newer = match waiting.heartbeats.get(device) {
                Some((rows, row)) => times(rows, "ts")?.get(*row).is_none_or(|known| ts > known),
                None => true,
            };
            if newer {
                waiting.heartbeats.insert(device.into(), (heartbeats.clone(), row));
            }
        }
        drop(waiting);
        self.some.notify_one();
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arrived> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
