//! Addresses behind proxies.

use super::*;

#[test]
fn only_known_proxies_are_believed() {
    let proxies = TrustedProxies::parse(&["10.0.0.0/8".into(), "::1".into()]).expect("nets");
    let client = |peer: &str, forwarded: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().expect("a header"));
        }
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    };
    assert_eq!(client("192.0.2.1", &["1.1.1.1"]), "192.0.2.1", "a stranger's word");
    assert_eq!(client("10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
    assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.2.3.4"]), "1.1.1.1");
    assert_eq!(client("10.0.0.1", &["6.6.6.6", "1.1.1.1"]), "1.1.1.1");
    assert_eq!(client("10.0.0.1", &["nonsense"]), "10.0.0.1");
    assert_eq!(client("::1", &[]), "::1");
    assert_eq!(client("::ffff:10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
    assert_eq!(TrustedProxies::parse(&["x".into()]), Err("x".into()));
}

#[test]
fn a_chain_of_proxies_is_walked_from_us_to_the_first_stranger() {
    let proxies =
        TrustedProxies::parse(&["10.0.0.0/8".into(), "2001:db8::/32".into()]).expect("nets");
    let client = |peer: &str, forwarded: &str| {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", forwarded.parse().expect("a header"));
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    };
    assert_eq!(client("10.0.0.1", "10.1.1.1, 10.2.2.2"), "10.1.1.1", "all of them are ours");
    assert_eq!(client("2001:db8::1", "198.51.100.7"), "198.51.100.7");
    assert_eq!(client("10.0.0.1", "::ffff:198.51.100.7"), "198.51.100.7", "one form of an address");
    assert_eq!(client("10.0.0.1", "1.1.1.1, nonsense, 10.2.2.2"), "10.2.2.2", "nothing beyond it");
    assert_eq!(client("10.0.0.1", ""), "10.0.0.1");
    assert_eq!(client("10.0.0.1", " 198.51.100.7 , "), "10.0.0.1", "an empty hop is no address");
}

#[test]
fn no_proxy_is_trusted_unless_it_is_named() {
    let none = TrustedProxies::default();
    let mut headers = HeaderMap::new();
    headers.append("x-forwarded-for", "1.1.1.1".parse().expect("a header"));
    let peer: IpAddr = "127.0.0.1".parse().expect("an address");
    assert_eq!(none.client(peer, &headers), peer);
    for bad in ["", "10.0.0.0/33", "10.0.0", "example.org"] {
        assert_eq!(TrustedProxies::parse(&[bad.to_owned()]), Err(bad.to_owned()));
    }
}
