//! How notifications are sent.

use std::time::Duration;

use super::networks::AllowedNetworks;

/// How notifications are sent.
#[derive(Debug, Clone)]
pub struct NotifyOptions {
    /// Private networks that webhooks may reach.
    pub networks: AllowedNetworks,
    /// The mail server, as `smtp://user:password@host:587?tls=required`; `None` sends no mail.
    pub smtp_url: Option<String>,
    /// The sender of mails.
    pub smtp_from: String,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long after the first attempt the second one is made. The wait doubles from then on, up
    /// to an hour.
    pub retry: Duration,
    /// How long after its creation a message is given up.
    pub give_up: Duration,
}

impl Default for NotifyOptions {
    fn default() -> Self {
        Self {
            networks: AllowedNetworks::default(),
            smtp_url: None,
            smtp_from: "Acuvim <acuvim@localhost>".to_owned(),
            timeout: Duration::from_secs(10),
            retry: Duration::from_secs(5),
            give_up: Duration::from_secs(24 * 3600),
        }
    }
}
