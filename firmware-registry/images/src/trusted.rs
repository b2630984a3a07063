//! A cache of verified images. An image is read whole and its hash compared before any byte of it is
//! served; from then on it is served from memory, where a range costs no more than a slice.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, ErrorKind},
    store::{ImageStore, Stamp},
};

/// How long to wait for the store's stamp of a cached image.
const STAMP_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
struct CachedImage {
    name: String,
    stamp: Stamp,
    bytes: Bytes,
    /// When the stamp was last compared with that of the stored object.
    checked: Instant,
    used: Instant,
}

/// A cache of images whose hash was verified.
#[derive(Debug)]
pub struct TrustedImages {
    store: ImageStore,
    max_bytes: usize,
    /// How long an image is served before its stored object is checked for changes.
    recheck: Duration,
    held: Mutex<Vec<CachedImage>>,
    /// Held while an image is read, so that a thousand devices that ask at once cause one read.
    reading: tokio::sync::Mutex<()>,
}

impl TrustedImages {
    /// A cache over a store. It keeps at most `max_bytes`, and checks an image for changes in the store
    /// once `recheck` has passed.
    #[must_use]
    pub fn new(store: ImageStore, max_bytes: usize, recheck: Duration) -> Self {
        Self {
            store,
            max_bytes,
            recheck,
            held: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// The store behind the cache.
    #[must_use]
    pub const fn store(&self) -> &ImageStore {
        &self.store
    }

    /// The whole image, exactly as it was uploaded.
    ///
    /// # Errors
    /// `Damaged` if the stored object is no longer that image, `NotFound` if it is gone.
    pub async fn bytes(&self, name: &str, sha256: &str, size: u64) -> Result<Bytes, Error> {
        if let Some(bytes) = self.fresh(name) {
            return Ok(bytes);
        }
        let _one = self.reading.lock().await;
        if let Some(bytes) = self.fresh(name) {
            return Ok(bytes);
        }
        let now = Instant::now();
        if let Some(held) = self.held(name) {
            // Counts as checked from now on, so that others are served from memory while this request waits
            // for the store.
            self.hold(CachedImage { checked: now, ..held.clone() });
            // An unreachable or slow store is no reason not to serve a verified image.
            match tokio::time::timeout(STAMP_TIMEOUT, self.store.stamp(name)).await {
                Ok(Ok(stamp)) if stamp != held.stamp => self.forget(name),
                Ok(Err(error)) if error.kind() == ErrorKind::NotFound => self.forget(name),
                _ => return Ok(held.bytes),
            }
        }
        let (bytes, stamp) = self.store.get(name, size).await?;
        // Before any byte is served: a device may have started to write its flash by the time a difference
        // is found.
        if hex::encode(Sha256::digest(&bytes)) != sha256 {
            let message = "the stored image is not the one that was uploaded, so it is not served";
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        self.hold(CachedImage {
            name: name.to_owned(),
            stamp,
            bytes: bytes.clone(),
            checked: now,
            used: now,
        });
        Ok(bytes)
    }

    fn held(&self, name: &str) -> Option<CachedImage> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().find(|held| held.name == name).cloned()
    }

    fn fresh(&self, name: &str) -> Option<Bytes> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.iter_mut().find(|held| held.name == name)?;
        // Also if it is due for a check: a popular image must not be evicted in the meantime.
        held.used = Instant::now();
        (held.checked.elapsed() < self.recheck).then(|| held.bytes.clone())
    }

    /// The number of bytes in memory.
    pub fn held_bytes(&self) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|held| held.bytes.len()).sum()
    }

    /// Drops an image from memory, so that the next request reads and verifies it again.
    pub fn forget(&self, name: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.name != name);
    }

    /// Adds an image, and evicts the least recently used ones beyond the limit.
    fn hold(&self, image: CachedImage) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.name != image.name);
        // It would push all others out and then not stay itself.
        if image.bytes.len() > self.max_bytes {
            return;
        }
        held.push(image);
        held.sort_by_key(|held| std::cmp::Reverse(held.used));
        let mut bytes = 0;
        held.retain(|held| {
            bytes += held.bytes.len();
            bytes <= self.max_bytes
        });
    }
}

#[cfg(test)]
mod tests;
