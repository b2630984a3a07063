//! The devices and readings of one batch.

use std::sync::Arc;

use crate::{cadence::Recent, inputs::Site};

/// A device with readings in a batch.
pub(super) struct BatchDevice {
    pub id: Arc<str>,
    pub site: Arc<Site>,
    pub applying: Arc<[bool]>,
    pub recent: Recent,
}

/// A reading to be evaluated.
pub(super) struct Sample {
    pub row: usize,
    /// The index of its device among those of the batch.
    pub device: usize,
    /// The readings of the device before it.
    pub before: Recent,
}
