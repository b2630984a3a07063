//! Firmware over HTTP: uploads, what a device is offered, downloads, and the one who runs rollouts.

mod deploy;
mod device;
mod gate;
mod offer;
mod rollouts;
mod serve;
mod upload;

use std::time::Duration;

use acuvim_firmware_registry::{Chip, PublicKey, TokenKey, TrustedImages};
use acuvim_schemas::problem::Code;

use crate::problem::ApiError;

pub(crate) use deploy::deploy;
pub(crate) use device::{FirmwareCaller, Shown};
pub(crate) use offer::{Asker, offer};
pub(crate) use rollouts::run as run_rollouts;
pub(crate) use serve::{Passes, serve};
pub(crate) use upload::upload;

/// How firmware is taken and given.
#[derive(Debug)]
pub struct FirmwareOptions {
    /// The images.
    pub images: TrustedImages,
    /// What signs download tokens.
    pub token_key: TokenKey,
    /// What URLs for devices begin with, without a slash at the end.
    pub base_url: String,
    /// Bytes of the slot that an image must fit into.
    pub slot: u64,
    /// Which chip a hardware has, beside what is known.
    pub chips: Vec<(String, Chip)>,
    /// Whose signatures count.
    pub public_keys: Vec<PublicKey>,
    /// Whether an image without a good signature is refused.
    pub require_signature: bool,
    /// Whether a known device's id alone lets it check and download.
    pub allow_bare_device_id: bool,
    /// A version that has failed on a device so often is not offered to it again.
    pub most_failures: i64,
    /// How long a download URL of a check is good.
    pub token_time: Duration,
    /// How often rollouts are looked at.
    pub rollout_interval: Duration,
    /// Who this process is, for the lease of rollouts.
    pub holder: String,
}

impl From<acuvim_firmware_registry::Error> for ApiError {
    fn from(error: acuvim_firmware_registry::Error) -> Self {
        use acuvim_firmware_registry::ErrorKind;
        match error.kind() {
            ErrorKind::Unavailable => {
                tracing::info!(%error, "a request met a firmware store that is away");
                Self::new(Code::Unavailable, "the firmware store is away; try again")
            }
            ErrorKind::Invalid => Self::new(Code::Refused, error.to_string()),
            ErrorKind::NotFound | ErrorKind::Damaged => Self::new(Code::Damaged, error.to_string()),
            ErrorKind::Setup | ErrorKind::Internal => Self::internal(&error),
        }
    }
}

/// There is no such release, or not for this caller.
pub(crate) fn no_firmware() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such firmware")
}
