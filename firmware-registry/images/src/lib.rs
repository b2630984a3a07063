//! Firmware images: their check, their store, signed manifests and download tokens.
//!
//! No HTTP and no database: releases are rows of `control`, served by `query`.

mod check;
mod error;
mod flash;
mod image;
mod manifest;
mod sample;
mod store;
mod token;
mod trusted;

pub use check::ImageCheck;
pub use error::{Error, ErrorKind};
pub use image::{Descriptor, Image, ImageError};
pub use manifest::{Manifest, PublicKey, Signed, SigningKey};
pub use sample::Sample;
pub use store::{ImageStore, Stamp, Stored};
pub use token::TokenKey;
pub use trusted::TrustedImages;
