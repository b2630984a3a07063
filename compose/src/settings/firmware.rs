//! The settings of firmware: where images are, what is taken, and how devices reach it.

use acuvim_firmware_registry::{Chip, PublicKey};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use url::Url;

use super::check::listed;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firmware {
    /// Unset: `firmware` in the data directory.
    pub url: Option<String>,
    /// What URLs for devices begin with, as https://host. Unset: where device_listen or http.listen is.
    pub base_url: Option<String>,
    /// Where checks and token downloads alone are served over plain HTTP. Empty: nowhere.
    pub device_listen: String,
    /// The partition of a device's flash that an image must fit into.
    pub slot_bytes: u64,
    /// Which chip a hardware has, beside what is known: `Board 7=ESP32-S3, ...`
    pub chips: String,
    /// Images without a good signature are refused.
    pub require_signature: bool,
    /// Whose signatures count: ed25519 keys in base64, separated by commas.
    pub public_keys: String,
    /// A known device's id alone lets it check and download.
    pub allow_bare_device_id: bool,
    /// A version that has failed on a device so often is not offered to it again.
    pub max_failures: i64,
    /// How long a URL that a check gives is good.
    pub url_hours: u64,
    /// How often rollouts are looked at.
    pub rollout_interval_seconds: u64,
    /// Images that are kept in memory while they are being fetched.
    pub cache_mb: usize,
}

impl Default for Firmware {
    fn default() -> Self {
        Self {
            url: None,
            base_url: None,
            device_listen: String::new(),
            slot_bytes: 1_966_080,
            chips: String::new(),
            require_signature: false,
            public_keys: String::new(),
            allow_bare_device_id: false,
            max_failures: 3,
            url_hours: 168,
            rollout_interval_seconds: 5,
            cache_mb: 64,
        }
    }
}

impl Firmware {
    /// The keys whose signatures count.
    pub fn keys(&self) -> anyhow::Result<Vec<PublicKey>> {
        let key = |text: String| {
            PublicKey::parse(&text).with_context(|| {
                format!("firmware.public_keys has `{text}`: allowed are 32 bytes in base64")
            })
        };
        listed(&self.public_keys).into_iter().map(key).collect()
    }

    /// The chips of hardware.
    pub fn chips(&self) -> anyhow::Result<Vec<(String, Chip)>> {
        let chip = |pair: String| {
            let parts = pair.split_once('=').map(|(name, chip)| (name.trim(), chip.trim()));
            let known = parts.and_then(|(name, chip)| Some((name.to_owned(), Chip::parse(chip)?)));
            known.with_context(|| {
                let all = Chip::ALL.map(Chip::as_str).join(", ");
                format!("firmware.chips has `{pair}`: allowed is hardware=chip, with one of {all}")
            })
        };
        listed(&self.chips).into_iter().map(chip).collect()
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.chips()?;
        let keys = self.keys()?;
        ensure!(
            !self.require_signature || !keys.is_empty(),
            "firmware.require_signature is set and firmware.public_keys has no key: nothing could be \
             uploaded"
        );
        if let Some(base) = &self.base_url {
            let url = Url::parse(base).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
            ensure!(
                url.is_some_and(|url| url.query().is_none()) && !base.ends_with('/'),
                "firmware.base_url is `{base}`: allowed is https://host, without a slash at its end"
            );
        }
        Ok(())
    }
}
