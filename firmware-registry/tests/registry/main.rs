//! Images, their store, and rollouts: what must be refused is, and what must go on does.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[path = "../../../compose/services/services.rs"]
mod services;

mod images;
mod mutations;
mod rollouts;
mod store;

use acuvim_firmware_registry::{Fault, Image, ImageCheck};

/// The slot of the tests: the default one.
const SLOT: u64 = 1_966_080;

/// Checks an image that comes in pieces of so many bytes.
fn check_in(bytes: &[u8], piece: usize) -> Result<Image, Fault> {
    let mut check = ImageCheck::new(SLOT);
    for piece in bytes.chunks(piece) {
        check.update(piece)?;
    }
    check.finish()
}

fn check(bytes: &[u8]) -> Result<Image, Fault> {
    check_in(bytes, bytes.len().max(1))
}
