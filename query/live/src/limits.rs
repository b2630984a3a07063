//! How much is taken from live clients, and how they are treated.

use std::time::Duration;

/// Limits of live connections.
#[derive(Debug, Clone)]
pub struct LiveLimits {
    /// Connections of this process.
    pub connections: usize,
    /// Connections of one user or key.
    pub connections_of_caller: usize,
    /// Events that wait for one client; with more of them it is closed.
    pub queue_events: usize,
    /// Bytes of these events; with more of them the client is closed too.
    pub queue_bytes: usize,
    /// Devices whose newest reading waits for one client; readings beyond are dropped and counted.
    pub queue_readings: usize,
    /// Subscriptions of a connection.
    pub subscriptions: usize,
    /// Devices and groups in all subscriptions of a connection.
    pub subscribed_devices: usize,
    /// Bytes of one record that a client sends.
    pub record_bytes: usize,
    /// Records a second that a client may send in the long run; ten times as many at once.
    pub records_per_second: u32,
    /// How often users, keys and their scopes are checked again.
    pub check_interval: Duration,
    /// The least time between two readings of a device for a client that never subscribed.
    pub default_interval: Duration,
    /// How long a client may take to subscribe before it gets everything.
    pub grace: Duration,
    /// How long a client may take for its handshake.
    pub handshake: Duration,
    /// How long a client may be silent.
    pub silence: Duration,
    /// How often an idle connection gets a ping.
    pub ping: Duration,
    /// How long a client may take to accept what is written to it.
    pub send: Duration,
    /// Origins whose web pages may connect, besides our own.
    pub origins: Vec<String>,
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self {
            connections: 5000,
            connections_of_caller: 2000,
            queue_events: 20_000,
            queue_bytes: 32 << 20,
            queue_readings: 10_000,
            subscriptions: 50,
            subscribed_devices: 1000,
            record_bytes: 32 << 10,
            records_per_second: 20,
            check_interval: Duration::from_secs(5),
            default_interval: Duration::from_secs(5),
            grace: Duration::from_millis(300),
            handshake: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            ping: Duration::from_secs(15),
            send: Duration::from_secs(60),
            origins: Vec::new(),
        }
    }
}
