//! Section `log`.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::text::{masked_url, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub url: Option<String>,
    pub partitions: u32,
    pub retention_hours: u64,
    pub topic_prefix: String,
    pub session_timeout_seconds: u64,
    pub retention_mb: u64,
    pub min_free_mb: u64,
}

/// The Kafka cluster of `log.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaCluster {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// User and password.
    pub login: Option<(String, String)>,
}

impl Log {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.kafka()?;
        within("log.partitions", self.partitions, 1, 64)?;
        within("log.retention_hours", self.retention_hours, 1, 24 * 365)?;
        let prefix = &self.topic_prefix;
        ensure!(
            // Kafka's own rule for names, with room for the suffixes that we add.
            !prefix.is_empty()
                && prefix.len() <= 100
                && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            "log.topic_prefix is `{prefix}`: allowed are 1 to 100 letters, digits, dots, underscores \
             and hyphens"
        );
        within("log.session_timeout_seconds", self.session_timeout_seconds, 1, 300)?;
        within("log.retention_mb", self.retention_mb, 64, 1 << 20)
    }

    /// The Kafka cluster; `None` if the log is embedded.
    pub fn kafka(&self) -> anyhow::Result<Option<KafkaCluster>> {
        let Some(text) = &self.url else { return Ok(None) };
        let allowed = || {
            format!(
                "log.url is `{}`: allowed is kafka://host:9092,host:9092, with user:password@ \
                 before it if need be",
                masked_url(text)
            )
        };
        let rest = text.strip_prefix("kafka://").with_context(allowed)?;
        let (login, brokers) = match rest.rsplit_once('@') {
            Some((login, brokers)) => {
                let (user, password) = login.split_once(':').with_context(allowed)?;
                (Some((user.to_owned(), password.to_owned())), brokers)
            }
            None => (None, rest),
        };
        let brokers = brokers.trim_end_matches('/');
        let complete = brokers.split(',').all(|broker| {
            let (host, port) = broker.rsplit_once(':').unwrap_or(("", ""));
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
        });
        ensure!(complete, "{}", allowed());
        Ok(Some(KafkaCluster { brokers: brokers.to_owned(), login }))
    }
}
