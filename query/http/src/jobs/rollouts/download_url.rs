//! The URLs of images.

use acuvim_firmware_registry::{Error, TokenKey};
use acuvim_model::Firmware;
use chrono::{DateTime, Utc};

/// Makes URLs of images.
#[derive(Debug)]
pub(crate) struct DownloadUrls {
    /// The key that signs the tokens in them.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::release;
    use chrono::TimeDelta;

    #[test]
    fn a_device_gets_a_url_with_a_token_of_its_own() {
        let token_key = TokenKey::of(b"secret");
        let urls = DownloadUrls { token_key, base_url: "http://here".into() };
        let firmware = release("1.2.0+build");
        let plain = "http://here/api/firmware/download/1.2.0%2Bbuild";
        assert_eq!(urls.plain(&firmware), plain);
        let now = DateTime::UNIX_EPOCH;
        let until = now + TimeDelta::hours(1);
        let url = urls.for_device(&firmware, "d1", until).expect("a URL");
        let token = url.strip_prefix(&format!("{plain}?t=")).expect("a token");
        assert_eq!(urls.token_key.check(token, &firmware.version, now), Some("d1"));
    }
}
