//! Section `notifications`.

use std::time::Duration;

use acuvim_processor::{AllowedNetworks, NotifyOptions};
use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::text::{listed, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notifications {
    pub allow_networks: String,
    pub smtp_url: Option<String>,
    pub smtp_from: String,
    pub timeout_seconds: u64,
    pub retry_seconds: u64,
    pub give_up_hours: u64,
}

impl Notifications {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.networks()?;
        within("notifications.timeout_seconds", self.timeout_seconds, 1, 60)?;
        within("notifications.retry_seconds", self.retry_seconds, 1, 3600)?;
        within("notifications.give_up_hours", self.give_up_hours, 1, 24 * 30)?;
        self.options()?.check_mail().map_err(|reason| {
            anyhow::anyhow!("notifications.smtp_url or notifications.smtp_from: {reason}")
        })
    }

    /// The private networks that webhooks may reach.
    pub fn networks(&self) -> anyhow::Result<AllowedNetworks> {
        let parsed = AllowedNetworks::parse(&listed(&self.allow_networks));
        let bad = parsed.as_ref().err().cloned().unwrap_or_default();
        ensure!(
            parsed.is_ok(),
            "notifications.allow_networks has `{bad}`: allowed are addresses and networks, such as \
             10.0.0.0/8"
        );
        Ok(parsed.unwrap_or_default())
    }

    /// The options of the senders.
    pub fn options(&self) -> anyhow::Result<NotifyOptions> {
        Ok(NotifyOptions {
            networks: self.networks()?,
            smtp_url: self.smtp_url.clone(),
            smtp_from: self.smtp_from.clone(),
            timeout: Duration::from_secs(self.timeout_seconds),
            retry: Duration::from_secs(self.retry_seconds),
            give_up: Duration::from_secs(self.give_up_hours * 3600),
        })
    }
}
