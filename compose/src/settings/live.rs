//! The settings of live connections.

use std::time::Duration;

use acuvim_query::LiveLimits;
use serde::{Deserialize, Serialize};

use super::check::{listed, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Live {
    /// WebSockets and event streams of this process.
    pub max_connections: usize,
    pub max_connections_per_user: usize,
    /// Events that wait for one client: with more of them it is closed, and comes again.
    pub queue_events: usize,
    /// Devices whose newest reading waits for one client: what is beyond is dropped and counted.
    pub queue_readings: usize,
    /// Devices and groups that one connection subscribes to.
    pub max_subscribed: usize,
    /// How often it is looked whether connections are still allowed, and what they see.
    pub check_seconds: u64,
    /// A client that never subscribed gets a device's readings so often, at most.
    pub default_seconds: u64,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            max_connections: 5000,
            max_connections_per_user: 2000,
            queue_events: 20_000,
            queue_readings: 10_000,
            max_subscribed: 1000,
            check_seconds: 5,
            default_seconds: 5,
        }
    }
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

    /// How live clients are treated; web pages of these origins may connect.
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
