//! Where the lake and the firmware images are stored.

use anyhow::Context as _;

use super::Settings;

impl Settings {
    /// The lake's root.
    pub fn lake_url(&self) -> anyhow::Result<url::Url> {
        self.url_or_folder("lake", self.lake.url.as_deref())
    }

    /// The root of firmware images. Below the lake if that has a URL, so that processes that share
    /// the one share the other.
    pub fn firmware_url(&self) -> anyhow::Result<url::Url> {
        if self.firmware.url.is_some() || self.lake.url.is_none() {
            return self.url_or_folder("firmware", self.firmware.url.as_deref());
        }
        let mut url = self.lake_url()?;
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push("_firmware");
        }
        Ok(url)
    }

    /// The `url` of a section, or the folder of its name in the data directory.
    fn url_or_folder(&self, section: &str, url: Option<&str>) -> anyhow::Result<url::Url> {
        match url {
            Some(text) => url::Url::parse(text)
                .ok()
                .filter(|url| ["file", "s3", "s3a"].contains(&url.scheme()))
                .with_context(|| {
                    format!("{section}.url is `{text}`: allowed are file:// and s3:// URLs")
                }),
            None => {
                let dir = std::path::absolute(self.data.dir.join(section))?;
                url::Url::from_directory_path(&dir)
                    .map_err(|()| anyhow::anyhow!("{} is no path for data.dir", dir.display()))
            }
        }
    }
}
