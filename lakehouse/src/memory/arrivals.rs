//! What has just arrived, for whoever shows it live: which devices have a newer latest reading, and
//! their newest heartbeats. Only the newest of each device waits here, so that nobody who is slow to
//! look makes it grow beyond the fleet.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::array::{AsArray as _, RecordBatch};
use tokio::sync::Notify;

use crate::{Error, writer::column};

/// What arrived since it was last taken. Nothing is gathered until somebody listens.
#[derive(Debug, Default)]
pub struct Arrivals {
    listened_to: AtomicBool,
    waiting: Mutex<Arrived>,
    some: Notify,
}

/// What arrived.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Devices that have a newer latest reading: [`crate::Latest`] has it.
    pub readings: HashSet<Arc<str>>,
    /// The newest heartbeat of each device that sent one: a row of `heartbeats`.
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
        self.listened_to.store(true, Ordering::Relaxed);
        loop {
            let arrived = std::mem::take(&mut *self.lock());
            if !arrived.is_empty() {
                return arrived;
            }
            self.some.notified().await;
        }
    }

    pub(crate) fn is_listened_to(&self) -> bool {
        self.listened_to.load(Ordering::Relaxed)
    }

    pub(crate) fn note(
        &self,
        readings: Vec<Arc<str>>,
        heartbeats: &RecordBatch,
    ) -> Result<(), Error> {
        if readings.is_empty() && heartbeats.num_rows() == 0 {
            return Ok(());
        }
        let devices = column(heartbeats, "device_id")?.as_string::<i32>();
        let mut waiting = self.lock();
        waiting.readings.extend(readings);
        for (row, device) in devices.iter().enumerate() {
            if let Some(device) = device {
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
