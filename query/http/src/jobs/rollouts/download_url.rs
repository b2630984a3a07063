//! Where devices find an image.

use acuvim_firmware_registry::{Error, TokenKey};
use acuvim_schemas::api::Firmware;
use chrono::{DateTime, Utc};

/// Makes URLs of images.
#[derive(Debug)]
pub(crate) struct DownloadUrls {
    /// What signs the tokens in them.
    pub token_key: TokenKey,
    /// The URLs' beginning, without a slash at its end.
    pub base_url: String,
}

impl DownloadUrls {
    /// The URL for people: it takes a login.
    pub fn plain(&self, firmware: &Firmware) -> String {
        let version = firmware.version.replace('+', "%2B");
        format!("{}/api/firmware/download/{version}", self.base_url)
    }

    /// The URL for one device, with a token that is valid until a time.
    pub fn for_device(
        &self,
        firmware: &Firmware,
        device_id: &str,
        until: DateTime<Utc>,
    ) -> Result<String, Error> {
        let token = self.token_key.make(device_id, &firmware.version, until)?;
        Ok(format!("{}?t={token}", self.plain(firmware)))
    }
}
