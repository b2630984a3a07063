//! What both protocol versions are set up with.

use std::time::Duration;

use rumqttc::{NetworkOptions, TlsConfiguration, Transport};

use crate::bridge::options::BridgeOptions;

/// How long connecting may take.
pub(super) const CONNECTING: Duration = Duration::from_secs(10);

/// The most packets that rumqttc queues for sending.
pub(super) const QUEUE: usize = 4096;

pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn transport(options: &BridgeOptions) -> Option<Transport> {
    let tls = options.tls.clone()?;
    Some(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
}

pub(super) fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    // Acknowledgements are small and waited for.
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECTING.as_secs());
    network
}
