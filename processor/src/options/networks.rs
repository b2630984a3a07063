//! Which addresses webhooks may reach. Private networks are closed by default: anyone who may
//! create a notification could otherwise probe the network that this system runs in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Private networks that webhooks may reach beside the public internet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedNetworks(Vec<IpNet>);

impl AllowedNetworks {
    /// Parses addresses and networks, as `10.0.0.1` or `10.0.0.0/8`.
    ///
    /// # Errors
    /// The first text that is neither.
    pub fn parse(networks: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            text.parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| text.clone())
        };
        networks.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a webhook may reach this address.
    #[must_use]
    pub fn lets(&self, address: IpAddr) -> bool {
        let address = unwrap_embedded(address);
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }
}

/// The IPv4 address that an IPv6 address stands for, if it stands for one: otherwise a private
/// address could be reached under its IPv6 form.
fn unwrap_embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    // IPv4-mapped, NAT64 (RFC 6052) and 6to4 (RFC 3056) addresses lead to the IPv4 address in them.
    let [.., high, low] = segments;
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        _ => address,
    }
}

/// Whether an address belongs to the public internet, by the IANA registries of special-purpose
/// addresses (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, ..) | (192, 168, _) | (169, 254, _) => true,
        (100, 64..=127, _) | (172, 16..=31, _) | (198, 18..=19, _) => true,
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) => true,
        // Multicast, reserved, broadcast.
        (224..=255, ..) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Global unicast, except for the documentation and tunnel ranges in it.
    let [first, second, ..] = segments;
    let global = (0x2000..=0x3fff).contains(&first);
    let special = matches!((first, second), (0x2001, 0x0db8) | (0x2001, 0..=0x01ff) | (0x3fff, _));
    global && !special
}

/// Why a URL's host is refused, if it is an address; a name is checked when it is resolved.
#[must_use]
pub fn refused_address(host: &str, networks: &AllowedNetworks) -> Option<String> {
    let address: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
    (!networks.lets(address)).then(|| refusal(address))
}

pub(crate) fn refusal(address: IpAddr) -> String {
    format!(
        "{address} is not a public address: webhooks reach it only if notifications.allow_networks \
         names it"
    )
}

#[cfg(test)]
mod tests;
