use super::*;

#[test]
fn no_id_can_be_a_topic_or_a_path() {
    assert!(DeviceId::parse("ACV-AABBCCDDEEFF").is_ok());
    assert!(DeviceId::parse(&"a".repeat(32)).is_ok());
    for bad in ["", "a/b", "+", "#", "..", "a b", "ü", &"a".repeat(33)] {
        assert_eq!(DeviceId::parse(bad), Err(InvalidDeviceId), "{bad}");
    }
}

#[test]
fn the_partition_of_a_device_never_changes() {
    // A changed hash would send a device's readings to another partition after an upgrade.
    let at = |id: &str| partition_of(id.as_bytes(), 4);
    assert_eq!((at("ACV-AABBCCDDEEFF"), at("ACV-000000000001"), at("a")), (2, 3, 0));
    assert_eq!(partition_of(b"x", 0), 0);
}

#[test]
fn only_a_valid_id_comes_out_of_json() {
    let id: DeviceId = serde_json::from_str("\"a_B-9\"").expect("an id");
    assert_eq!(serde_json::to_string(&id).expect("JSON"), "\"a_B-9\"");
    let said = serde_json::from_str::<DeviceId>("\"a/b\"").expect_err("none").to_string();
    assert!(said.starts_with("a device id is 1 to 32 characters of A-Z a-z 0-9 _ -"), "{said}");
    assert!(serde_json::from_str::<DeviceId>("7").is_err());
}

/// The published vectors of FNV-1a: another implementation must find the same partition.
#[test]
fn the_hash_is_fnv_1a() {
    for (id, hash) in [
        ("", 0xcbf2_9ce4_8422_2325_u64),
        ("a", 0xaf63_dc4c_8601_ec8c),
        ("foobar", 0x8594_4171_f739_67e8),
    ] {
        for partitions in [1, 2, 4, 12, 1_000_003, u32::MAX] {
            let want = u32::try_from(hash % u64::from(partitions)).expect("small");
            assert_eq!(partition_of(id.as_bytes(), partitions), want, "{id} {partitions}");
        }
    }
}
