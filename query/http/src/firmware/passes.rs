//! Devices' rights to firmware, remembered for a moment.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use acuvim_control::StoredFirmware;

/// How long a right is taken as known: a download in small ranges makes hundreds of requests.
const VALID_FOR: Duration = Duration::from_secs(5);

/// Rights that are remembered; with more, those that have ended are dropped.
const MOST: usize = 20_000;

/// A device and a version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PassKey {
    pub device_id: String,
    pub version: String,
}

/// The right of a device to a version.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub firmware: Arc<StoredFirmware>,
    until: Instant,
    /// Whether it is stored that the device has begun its download.
    pub began: bool,
}

impl Pass {
    /// The right that a device has from now on.
    pub fn new(firmware: StoredFirmware) -> Self {
        let until = Instant::now() + VALID_FOR;
        Self { firmware: Arc::new(firmware), until, began: false }
    }
}

/// Devices' rights to versions.
#[derive(Debug, Default)]
pub(super) struct Passes(Mutex<HashMap<PassKey, Pass>>);

impl Passes {
    pub fn get(&self, key: &PassKey) -> Option<Pass> {
        self.lock().get(key).filter(|pass| pass.until > Instant::now()).cloned()
    }

    pub fn put(&self, key: PassKey, pass: Pass) {
        let mut passes = self.lock();
        if passes.len() >= MOST {
            let now = Instant::now();
            passes.retain(|_, pass| pass.until > now);
        }
        // A right that finds no room is looked up again each time, which is slow and not wrong.
        if passes.len() < MOST {
            passes.insert(key, pass);
        }
    }

    /// Forgets a version that was changed.
    pub fn forget(&self, version: &str) {
        self.lock().retain(|key, _| key.version != version);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PassKey, Pass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
