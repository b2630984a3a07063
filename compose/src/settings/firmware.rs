//! Section `firmware`.

use acuvim_firmware_registry::PublicKey;
use acuvim_rollout::Chip;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use url::Url;

use super::text::{address, listed, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    pub url: Option<String>,
    pub base_url: Option<String>,
    pub device_listen: String,
    pub slot_bytes: u64,
    pub chips: String,
    pub require_signature: bool,
    pub public_keys: String,
    pub allow_bare_device_id: bool,
    pub max_failures: i64,
    pub url_hours: u64,
    pub rollout_interval_seconds: u64,
    pub cache_mb: usize,
}

impl Firmware {
    /// The keys whose signatures are valid.
    pub fn keys(&self) -> anyhow::Result<Vec<PublicKey>> {
        let key = |text: String| {
            PublicKey::parse(&text).with_context(|| {
                format!("firmware.public_keys has `{text}`: allowed are 32 bytes in base64")
            })
        };
        listed(&self.public_keys).into_iter().map(key).collect()
    }

    /// Hardware names with their chips.
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
        if !self.device_listen.is_empty() {
            address("firmware.device_listen", &self.device_listen)?;
        }
        within("firmware.slot_bytes", self.slot_bytes, 65_536, 16 << 20)?;
        within("firmware.max_failures", self.max_failures, 1, 1000)?;
        within("firmware.url_hours", self.url_hours, 1, 24 * 30)?;
        within("firmware.rollout_interval_seconds", self.rollout_interval_seconds, 1, 60)?;
        within("firmware.cache_mb", self.cache_mb, 1, 16_384)
    }
}
