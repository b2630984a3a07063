//! Section `mqtt`.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::text::{address, masked_url, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    pub url: Option<String>,
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<String>,
    pub share_group: Option<String>,
    pub receive_maximum: u16,
    pub session_expiry_hours: u64,
    pub version: MqttVersion,
    pub ca_file: Option<PathBuf>,
    pub listen: String,
    pub websocket_listen: String,
    pub topic_prefix: String,
    pub max_payload_kb: usize,
    pub max_connections: usize,
    pub max_silent_connections: usize,
    pub unfinished_mb: usize,
    pub messages_per_client: u32,
    pub device_mb_per_day: u64,
    pub device_alerts_per_day: u64,
    pub anonymous_on_loopback: bool,
    pub patience_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MqttVersion {
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "5")]
    V5,
    #[serde(rename = "3.1.1")]
    V311,
}

/// The broker that the bridge connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteBroker {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl Mqtt {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.remote_broker()?;
        address("mqtt.listen", &self.listen)?;
        if !self.websocket_listen.is_empty() {
            address("mqtt.websocket_listen", &self.websocket_listen)?;
        }
        ensure!(
            acuvim_wire::topic::is_prefix(&self.topic_prefix),
            "mqtt.topic_prefix is `{}`: allowed are topic levels without + and #",
            self.topic_prefix
        );
        ensure!(
            (1..=128).contains(&self.client_id.len()),
            "mqtt.client_id is `{}`: allowed are 1 to 128 characters",
            self.client_id
        );
        if let Some(group) = &self.share_group {
            let plain = !group.is_empty() && !group.contains(['/', '+', '#']);
            ensure!(plain, "mqtt.share_group is `{group}`: allowed is a name without / + #");
        }
        within("mqtt.receive_maximum", self.receive_maximum, 1, 10_000)?;
        within("mqtt.session_expiry_hours", self.session_expiry_hours, 1, 24 * 365)?;
        within("mqtt.messages_per_client", self.messages_per_client, 0, 1_000_000)?;
        within("mqtt.device_mb_per_day", self.device_mb_per_day, 0, 1 << 20)?;
        within("mqtt.device_alerts_per_day", self.device_alerts_per_day, 0, 1_000_000)?;
        within("mqtt.max_payload_kb", self.max_payload_kb, 1, 2048)?;
        within("mqtt.max_connections", self.max_connections, 1, 100_000)?;
        within("mqtt.max_silent_connections", self.max_silent_connections, 2, 100_000)?;
        within("mqtt.unfinished_mb", self.unfinished_mb, 8, 65_536)?;
        within("mqtt.patience_seconds", self.patience_seconds, 1, 120)
    }

    /// The broker to bridge to; `None` if the built-in broker is used.
    pub fn remote_broker(&self) -> anyhow::Result<Option<RemoteBroker>> {
        let Some(text) = &self.url else { return Ok(None) };
        let url = url::Url::parse(text).ok().filter(|url| {
            ["mqtt", "mqtts"].contains(&url.scheme())
                && url.username().is_empty()
                && url.path().trim_matches('/').is_empty()
        });
        let parts = url.as_ref().and_then(|url| Some((url.host_str()?, url)));
        let (host, url) = parts.with_context(|| {
            format!(
                "mqtt.url is `{}`: allowed are mqtt://host:1883 and mqtts://host:8883, with the \
                 login in mqtt.username and mqtt.password",
                masked_url(text)
            )
        })?;
        let tls = url.scheme() == "mqtts";
        let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
        Ok(Some(RemoteBroker { host: host.trim_matches(['[', ']']).to_owned(), port, tls }))
    }
}
