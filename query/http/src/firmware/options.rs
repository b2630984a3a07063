//! How firmware is taken and given.

use std::time::Duration;

use acuvim_firmware_registry::{PublicKey, TokenKey, TrustedImages};
use acuvim_rollout::Chip;

/// How firmware is taken and given.
#[derive(Debug)]
pub struct FirmwareOptions {
    /// The store of images.
    pub images: TrustedImages,
    /// The key that signs download tokens.
    pub token_key: TokenKey,
    /// The beginning of devices' URLs, without a slash at its end.
    pub base_url: String,
    /// Bytes of the slot that an image must fit into.
    pub slot: u64,
    /// The chips of hardware that is not known by itself.
    pub chips: Vec<(String, Chip)>,
    /// The keys whose signatures are accepted.
    pub public_keys: Vec<PublicKey>,
    /// Whether an image without a good signature is refused.
    pub require_signature: bool,
    /// Whether a known device's id alone lets it check and download.
    pub allow_bare_device_id: bool,
    /// How often a version may fail on a device before it is no longer offered to that device.
    pub most_failures: i64,
    /// How long the download URL in the answer to a check is valid.
    pub token_time: Duration,
    /// The pause between two rounds of rollouts.
    pub rollout_interval: Duration,
    /// Who this process is, for the lease of rollouts.
    pub holder: String,
}
