//! Firmware: images checked to the last byte, their store, signed manifests, and the logic of
//! rollouts. No HTTP; what is kept of releases and rollouts is in control.

mod chip;
mod error;
mod image;
mod manifest;
mod plan;
mod rollout;
mod sample;
mod store;
mod token;
mod trusted;
mod version;
mod window;

pub use chip::{Chip, chip_of};
pub use error::{Error, ErrorKind};
pub use image::{Descriptor, Fault, Image, ImageCheck, hex};
pub use manifest::{Manifest, PublicKey, Signed, SigningKey};
pub use plan::{check_plan, stages_of};
pub use rollout::{GateAnswer, Judged, Look, Next, judge, observe, offers};
pub use sample::Sample;
pub use store::{ImageStore, Stamp, Stored};
pub use token::TokenKey;
pub use trusted::TrustedImages;
pub use version::{Version, fell_back, is_newer, runs};
pub use window::Window;
