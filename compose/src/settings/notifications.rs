//! The settings of notifications: what webhooks may reach, and the mail server.

use std::time::Duration;

use acuvim_processor::{AllowedNetworks, NotifyOptions};
use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::check::{listed, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notifications {
    /// Private addresses and networks that webhooks may reach, separated by commas. Empty: none.
    pub allow_networks: String,
    /// smtp://user:password@host:587?tls=required, or smtps://... Unset: no mails.
    pub smtp_url: Option<String>,
    /// Whom mails are from: Acuvim <acuvim@example.org>
    pub smtp_from: String,
    /// How long one attempt may take.
    pub timeout_seconds: u64,
    /// To the second attempt; then twice as long each time, up to an hour.
    pub retry_seconds: u64,
    /// How long a message is tried.
    pub give_up_hours: u64,
}

impl Default for Notifications {
    fn default() -> Self {
        Self {
            allow_networks: String::new(),
            smtp_url: None,
            smtp_from: "Acuvim <acuvim@localhost>".into(),
            timeout_seconds: 10,
            retry_seconds: 5,
            give_up_hours: 24,
        }
    }
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

    /// Private networks that webhooks may reach.
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

    /// How notifications are sent.
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
