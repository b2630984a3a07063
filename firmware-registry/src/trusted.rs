//! Images that are served: read whole and hashed once, then kept in memory, so that no byte leaves
//! that was not part of what was uploaded, and a small range costs a slice.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{
    Error, ErrorKind,
    image::hex,
    store::{ImageStore, Stamp},
};

/// How long the store may take to say whether an image is as it was.
const ANSWER: Duration = Duration::from_secs(2);

/// An image in memory.
#[derive(Debug, Clone)]
struct Held {
    name: String,
    stamp: Stamp,
    bytes: Bytes,
    /// When the stored object was last looked at, and when the image was last asked for.
    looked: Instant,
    used: Instant,
}

/// Images that were found to be what was uploaded.
#[derive(Debug)]
pub struct TrustedImages {
    store: ImageStore,
    /// Bytes that are kept at most.
    room: usize,
    /// How long an image is served before the stored object is looked at again.
    look_again: Duration,
    held: Mutex<Vec<Held>>,
    /// One image is read at a time: a thousand devices that begin together cost one.
    reading: tokio::sync::Mutex<()>,
}

impl TrustedImages {
    /// Images of a store; so many bytes of them are kept.
    #[must_use]
    pub fn new(store: ImageStore, room: usize, look_again: Duration) -> Self {
        Self {
            store,
            room,
            look_again,
            held: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Where they are kept.
    #[must_use]
    pub const fn store(&self) -> &ImageStore {
        &self.store
    }

    /// An image whole, as it was uploaded.
    ///
    /// # Errors
    /// `Damaged` when what is stored is not that any more, `NotFound` when it is gone.
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
            self.hold(Held { looked: now, ..held.clone() });
            // A store that is away, or slow, does not make what is in memory any worse.
            match tokio::time::timeout(ANSWER, self.store.stamp(name)).await {
                Ok(Ok(stamp)) if stamp != held.stamp => self.forget(name),
                Ok(Err(error)) if error.kind() == ErrorKind::NotFound => self.forget(name),
                _ => return Ok(held.bytes),
            }
        }
        let (bytes, stamp) = self.store.get(name, size).await?;
        if hex(&Sha256::digest(&bytes)) != sha256 {
            let message = "the stored image is not the one that was uploaded; it is not served";
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        self.hold(Held {
            name: name.to_owned(),
            stamp,
            bytes: bytes.clone(),
            looked: now,
            used: now,
        });
        Ok(bytes)
    }

    fn held(&self, name: &str) -> Option<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().find(|held| held.name == name).cloned()
    }

    fn fresh(&self, name: &str) -> Option<Bytes> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.iter_mut().find(|held| held.name == name)?;
        held.used = Instant::now();
        (held.looked.elapsed() < self.look_again).then(|| held.bytes.clone())
    }

    /// Bytes of the images in memory.
    pub fn held_bytes(&self) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|held| held.bytes.len()).sum()
    }

    /// Forgets an image; the next who asks reads it anew.
    pub fn forget(&self, name: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.name != name);
    }

    /// Keeps an image, and lets go of those that were not asked for the longest.
    fn hold(&self, image: Held) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.name != image.name);
        held.push(image);
        held.sort_by_key(|held| std::cmp::Reverse(held.used));
        let mut bytes = 0;
        held.retain(|held| {
            bytes += held.bytes.len();
            bytes <= self.room
        });
    }
}
