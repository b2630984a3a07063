//! Limits of requests and connections.

use std::time::Duration;

use crate::{address::TrustedProxies, listen::ConnectionLimits};

/// Limits of requests and connections.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Requests a second from one address, in the long run; 0: any number.
    pub per_address: u32,
    /// Requests a second of one user or key in the long run; 0: any number.
    pub per_user: u32,
    /// How long a request may take.
    pub request_time: Duration,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub proxies: TrustedProxies,
    /// Origins whose web pages may use the API from a browser.
    pub cors_origins: Vec<String>,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            per_address: 200,
            per_user: 100,
            request_time: Duration::from_secs(60),
            connections: ConnectionLimits::default(),
            proxies: TrustedProxies::default(),
            cors_origins: Vec::new(),
        }
    }
}
