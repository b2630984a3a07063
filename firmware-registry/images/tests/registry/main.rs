//! Images and their store.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[path = "../../../../compose/services/services.rs"]
mod services;

mod images;
mod mutations;
mod store;

use acuvim_firmware_registry::{Image, ImageCheck, ImageError};

/// The default slot.
const SLOT: u64 = 1_966_080;

/// Checks an image that arrives in pieces of this many bytes.
fn check_in(bytes: &[u8], piece: usize) -> Result<Image, ImageError> {
    let mut check = ImageCheck::new(SLOT);
    for piece in bytes.chunks(piece) {
        check.update(piece)?;
    }
    check.finish()
}

fn check(bytes: &[u8]) -> Result<Image, ImageError> {
    check_in(bytes, bytes.len().max(1))
}
