//! The address that a request comes from. A header that names one counts only if a trusted proxy sent it.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The address that a request comes from; every request has one as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub IpAddr);

/// The networks of proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads addresses and networks, as `10.0.0.1` or `10.0.0.0/8`.
    ///
    /// # Errors
    /// The one that is neither.
    pub fn parse(networks: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            text.parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| text.clone())
        };
        networks.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address nearest to us that is not a trusted proxy. A client at that address could have made up the
    /// addresses before it.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut at = peer.to_canonical();
        let forwarded = headers.get_all("x-forwarded-for").into_iter();
        let hops: Vec<&str> =
            forwarded.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).collect();
        for hop in hops.into_iter().rev() {
            if !self.trusts(at) {
                break;
            }
            match hop.trim().parse::<IpAddr>() {
                Ok(address) => at = address.to_canonical(),
                Err(_) => break,
            }
        }
        at
    }
}

#[cfg(test)]
mod tests;
