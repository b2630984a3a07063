//! Section `live`.

use std::time::Duration;

use acuvim_query::LiveLimits;
use serde::{Deserialize, Serialize};

use super::text::{listed, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    pub max_connections: usize,
    pub max_connections_per_user: usize,
    pub queue_events: usize,
    pub queue_readings: usize,
    pub max_subscribed: usize,
    pub check_seconds: u64,
    pub default_seconds: u64,
}

impl Live {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("live.max_connections", self.max_connections, 1, 100_000)?;
        within("live.max_connections_per_user", self.max_connections_per_user, 1, 100_000)?;
        within("live.queue_events", self.queue_events, 10, 1_000_000)?;
        within("live.queue_readings", self.queue_readings, 1, 1_000_000)?;
        within("live.max_subscribed", self.max_subscribed, 1, 100_000)?;
        within("live.check_seconds", self.check_seconds, 1, 600)?;
        within("live.default_seconds", self.default_seconds, 1, 3600)
    }

    /// The limits of live connections; web pages of these origins may open one.
    pub fn limits(&self, origins: &str) -> LiveLimits {
        LiveLimits {
            connections: self.max_connections,
            connections_of_caller: self.max_connections_per_user,
            queue_events: self.queue_events,
            queue_readings: self.queue_readings,
            subscribed_devices: self.max_subscribed,
            check_interval: Duration::from_secs(self.check_seconds),
            default_interval: Duration::from_secs(self.default_seconds),
            origins: listed(origins),
            ..LiveLimits::default()
        }
    }
}
