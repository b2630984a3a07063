//! The settings of the built-in broker.

use std::time::Duration;

/// The settings of the built-in broker.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// The most connections at a time; further ones are closed at once.
    pub max_connections: usize,
    /// The most connections that have not logged in yet; one address may have half of them.
    pub max_silent: usize,
    /// The most bytes of packets that are not complete yet, over all connections.
    pub unfinished_bytes: usize,
    /// The origins of web pages that may connect over websockets.
    pub origins: Vec<String>,
    /// Messages a second that one client may send, and as many more in a burst; 0: no limit.
    pub messages_per_second: u32,
    /// The interval of the pulses, and so the shortest time after which a device counts as silent. There is one
    /// every ten seconds at least.
    pub pulse: Duration,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            max_connections: 12_000,
            max_silent: 2000,
            unfinished_bytes: 256 << 20,
            origins: Vec::new(),
            messages_per_second: 1000,
            pulse: Duration::from_secs(30),
        }
    }
}
