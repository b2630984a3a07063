//! The network of an address, for limits by address.

use std::net::{IpAddr, Ipv6Addr};

/// The unit that limits count by: a single IPv4 address, or an IPv6 /64, because a household or a site has a
/// whole network of IPv6 addresses. IPv4-mapped IPv6 addresses count as IPv4.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    // A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d, which would all share one /64.
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_site_counts_as_one_address() {
        let of = |text: &str| network(text.parse().expect("an address")).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
