//! Section `http`.

use acuvim_query::TrustedProxies;
use anyhow::{anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::text::{address, listed, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub listen: String,
    pub cors_origins: String,
    pub trusted_proxies: String,
    pub requests_per_address: u32,
    pub requests_per_user: u32,
    pub request_timeout_seconds: u64,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    pub first_request_seconds: u64,
    pub idle_seconds: u64,
}

impl Http {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        address("http.listen", &self.listen)?;
        for origin in listed(&self.cors_origins) {
            let has_scheme = origin.starts_with("http://") || origin.starts_with("https://");
            ensure!(
                has_scheme && !origin.ends_with('/'),
                "http.cors_origins has `{origin}`: allowed is https://host, without a path"
            );
        }
        self.proxies()?;
        within("http.request_timeout_seconds", self.request_timeout_seconds, 1, 3600)?;
        within("http.max_connections", self.max_connections, 10, 100_000)?;
        let of_address = self.max_connections_per_address;
        within("http.max_connections_per_address", of_address, 0, 100_000)?;
        within("http.first_request_seconds", self.first_request_seconds, 1, 300)?;
        within("http.idle_seconds", self.idle_seconds, 1, 3600)
    }

    /// The proxies whose statement of a client's address is believed.
    pub fn proxies(&self) -> anyhow::Result<TrustedProxies> {
        TrustedProxies::parse(&listed(&self.trusted_proxies)).map_err(|bad| {
            anyhow!(
                "http.trusted_proxies has `{bad}`: allowed are addresses and networks, as 10.0.0.0/8"
            )
        })
    }
}
