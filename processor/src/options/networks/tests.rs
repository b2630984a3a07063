use super::*;
use proptest::prelude::*;

#[test]
fn only_public_addresses_are_reached() {
    let none = AllowedNetworks::default();
    for inner in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "2001::1",
        "::127.0.0.1",
    ] {
        assert!(!none.lets(inner.parse().expect("an address")), "{inner}");
    }
    for outer in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
        assert!(none.lets(outer.parse().expect("an address")), "{outer}");
    }
}

#[test]
fn an_allowed_network_lets_in_its_own_addresses_only() {
    let some = AllowedNetworks::parse(&["127.0.0.1".into(), "10.0.0.0/8".into()]).expect("two");
    assert!(some.lets("127.0.0.1".parse().expect("it")));
    assert!(some.lets("::ffff:10.9.9.9".parse().expect("it")));
    assert!(!some.lets("127.0.0.2".parse().expect("it")));
    assert_eq!(refused_address("hooks.example", &some), None);
    assert!(refused_address("[::1]", &some).is_some());
    assert_eq!(AllowedNetworks::parse(&["home".into()]), Err("home".into()));
}

proptest! {
    #[test]
    fn an_embedded_address_is_as_public_as_itself(v4 in any::<u32>()) {
        let (none, v4) = (AllowedNetworks::default(), Ipv4Addr::from(v4));
        prop_assert_eq!(none.lets(IpAddr::V4(v4)), none.lets(IpAddr::V6(v4.to_ipv6_mapped())));
    }
}

fn lets(address: &str) -> bool {
    AllowedNetworks::default().lets(address.parse().expect("an address"))
}

#[test]
fn special_ranges_end_where_they_end() {
    for (public, special) in [
        ("9.255.255.255", "10.0.0.0"),
        ("11.0.0.0", "10.255.255.255"),
        ("100.63.255.255", "100.64.0.0"),
        ("100.128.0.0", "100.127.255.255"),
        ("126.255.255.255", "127.0.0.0"),
        ("128.0.0.0", "127.255.255.255"),
        ("169.253.255.255", "169.254.0.0"),
        ("169.255.0.0", "169.254.255.255"),
        ("172.15.255.255", "172.16.0.0"),
        ("172.32.0.0", "172.31.255.255"),
        ("192.0.1.0", "192.0.0.255"),
        ("192.0.3.0", "192.0.2.255"),
        ("192.88.98.255", "192.88.99.0"),
        ("192.167.255.255", "192.168.0.0"),
        ("192.169.0.0", "192.168.255.255"),
        ("198.17.255.255", "198.18.0.0"),
        ("198.20.0.0", "198.19.255.255"),
        ("198.51.99.255", "198.51.100.0"),
        ("198.51.101.0", "198.51.100.255"),
        ("203.0.112.255", "203.0.113.0"),
        ("203.0.114.0", "203.0.113.255"),
        ("223.255.255.255", "224.0.0.0"),
        ("1.0.0.0", "0.255.255.255"),
        ("2000::", "1fff:ffff::"),
        ("2001:200::", "2001:1ff::"),
        ("2001:db7::", "2001:db8::"),
        ("2001:db9::", "2001:db8:ffff::"),
        ("3ffe::", "3fff::"),
        ("3ffe:ffff::", "4000::"),
    ] {
        assert!(lets(public), "{public} is public");
        assert!(!lets(special), "{special} is not");
    }
}

#[test]
fn an_address_that_leads_to_another_one_is_as_public_as_that() {
    assert!(lets("64:ff9b::808:808") && !lets("64:ff9b::a00:1"), "NAT64");
    assert!(lets("2002:808:808::1") && !lets("2002:a00:1::808:808"), "6to4");
    assert!(!lets("64:ff9b:1::808:808"), "a local NAT64 prefix leads anywhere");
    assert!(!lets("::ffff:0:8.8.8.8") && !lets("::8.8.8.8"), "obsolete forms");
}

#[test]
fn an_allowed_network_is_parsed_with_its_host_bits_and_in_either_family() {
    let some = ["10.1.2.3/8", "fd00::/8", "::1"].map(str::to_owned);
    let some = AllowedNetworks::parse(&some).expect("three");
    let lets = |address: &str| some.lets(address.parse().expect("an address"));
    assert!(lets("10.255.0.1") && lets("fd12::1") && lets("::1"));
    assert!(!lets("fe80::1") && !lets("192.168.0.1"));
    for bad in ["", "10.0.0.0/33", "10.0.0", "fd00::/129", "10.0.0.1 "] {
        assert_eq!(AllowedNetworks::parse(&[bad.to_owned()]), Err(bad.to_owned()));
    }
}

#[test]
fn a_refusal_says_what_to_set() {
    let none = AllowedNetworks::default();
    let why = refused_address("10.0.0.1", &none).expect("it is refused");
    assert!(why.contains("10.0.0.1") && why.contains("notifications.allow_networks"), "{why}");
    assert_eq!(refused_address("8.8.8.8", &none), None);
    assert_eq!(refused_address("localhost", &none), None, "names are checked when they resolve");
}
