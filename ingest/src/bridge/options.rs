//! The settings of the bridge.

use std::{sync::Arc, time::Duration};

/// Which version of MQTT is spoken with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// 5, or 3.1.1 if the broker does not know 5.
    Auto,
    /// Only 5; a broker that refuses it counts as away.
    V5,
    /// Only 3.1.1, in which commands have no expiry at the broker.
    V311,
}

/// The settings of the bridge.
#[derive(Debug, Clone)]
pub struct BridgeOptions {
    /// The broker's host name or address.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// Set for TLS, with the roots of trust.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// The client id, which identifies our session at the broker, and so the messages that wait in it.
    pub client_id: String,
    /// Telemetry is shared with the other members of this group; none: all of it comes here.
    pub share_group: Option<String>,
    /// The most messages that the broker may send without our acknowledgement.
    pub receive_maximum: u16,
    /// How long the broker keeps our session while we are disconnected.
    pub session_expiry: Duration,
    /// Which version of MQTT is spoken.
    pub version: MqttVersion,
    /// The interval of the pulses, and so the shortest time after which a device counts as silent.
    pub pulse: Duration,
}
