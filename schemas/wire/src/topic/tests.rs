use super::*;
use proptest::prelude::*;

#[test]
fn the_six_topics_are_recognised() {
    for kind in DeviceKind::WITH_TOPIC {
        let topic = uplink("acuvim", "ACV-1", kind.into());
        assert_eq!(parse("acuvim", &topic), Uplink::Device { device_id: "ACV-1", kind });
    }
    assert_eq!(parse("acuvim", "devices/register"), Uplink::Register);
    let deep = parse("site/a", "site/a/ACV-1/status");
    assert_eq!(deep, Uplink::Device { device_id: "ACV-1", kind: DeviceKind::Status });
}

#[test]
fn other_topics_are_foreign_or_have_a_bad_device_id() {
    for foreign in [
        "",
        "acuvim",
        "acuvim/x",
        "acuvim/x/cmd",
        "acuvim/x/sent",
        "acuvim/x/reject",
        "acuvim/x/register",
        "acuvim/x/pulse",
        "other/x/telemetry",
        "acuvimx/y/telemetry",
        "$SYS/broker",
    ] {
        assert_eq!(parse("acuvim", foreign), Uplink::Foreign, "{foreign}");
    }
    for bad in ["acuvim//telemetry", "acuvim/a/b/telemetry", "acuvim/a b/telemetry"] {
        assert_eq!(
            parse("acuvim", bad),
            Uplink::BadDeviceId { kind: DeviceKind::Telemetry },
            "{bad}"
        );
    }
}

/// Also for kinds that are added later: no topic may stand for a record that only ingest writes.
#[test]
fn no_topic_stands_for_a_record_of_ingest() {
    for kind in Kind::ALL {
        let topic = format!("acuvim/x/{kind}");
        let may = kind.of_device().filter(|k| *k != DeviceKind::Register);
        let got = parse("acuvim", &topic);
        match may {
            Some(kind) => assert_eq!(got, Uplink::Device { device_id: "x", kind }),
            None => assert_eq!(got, Uplink::Foreign, "{topic}"),
        }
    }
}

#[test]
fn prefixes_without_wildcards_or_empty_levels() {
    assert!(is_prefix("acuvim") && is_prefix("site/a"));
    for bad in ["", "/", "a/", "a//b", "a/+", "#", "$SYS"] {
        assert!(!is_prefix(bad), "{bad}");
    }
}

#[test]
fn topics_that_are_almost_ours_are_not() {
    for foreign in [
        "acuvim/telemetry",
        "acuvim/x/telemetry/",
        "acuvim/x/Telemetry",
        "ACUVIM/x/telemetry",
        "/acuvim/x/telemetry",
        "devices/register/",
        "devices/Register",
        "acuvim/devices/register",
        "acuvim/x/telemetry\0",
    ] {
        assert_eq!(parse("acuvim", foreign), Uplink::Foreign, "{foreign:?}");
    }
    let long = format!("acuvim/{}/status", "a".repeat(33));
    for bad in ["acuvim/+/status", "acuvim/#/status", "acuvim/\0/status", "acuvim/ü/status", &long]
    {
        assert_eq!(
            parse("acuvim", bad),
            Uplink::BadDeviceId { kind: DeviceKind::Status },
            "{bad:?}"
        );
    }
}

/// Otherwise a device with the id `register` could take the place of the shared topic.
#[test]
fn registrations_have_their_topic_under_any_prefix() {
    for prefix in ["acuvim", "devices", "a/b"] {
        assert_eq!(parse(prefix, "devices/register"), Uplink::Register, "{prefix}");
        assert_eq!(uplink(prefix, "d1", Kind::Register), "devices/register");
    }
    let of_register = Uplink::Device { device_id: "register", kind: DeviceKind::Status };
    assert_eq!(parse("devices", "devices/register/status"), of_register);
}

#[test]
fn a_prefix_has_at_most_128_bytes() {
    assert!(is_prefix(&"a".repeat(128)) && !is_prefix(&"a".repeat(129)));
    assert!(!is_prefix("a\0b") && !is_prefix("/a") && !is_prefix("a/b#"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_device_is_recognised_under_every_prefix(
        prefix in "[a-z]{1,6}(/[a-z0-9_-]{1,6}){0,3}",
        device_id in "[A-Za-z0-9_-]{1,32}",
    ) {
        prop_assert!(is_prefix(&prefix));
        for kind in DeviceKind::WITH_TOPIC {
            let topic = uplink(&prefix, &device_id, kind.into());
            prop_assert_eq!(parse(&prefix, &topic), Uplink::Device { device_id: &device_id, kind });
        }
        let topic = command(&prefix, &device_id);
        prop_assert_eq!(parse(&prefix, &topic), Uplink::Foreign);
    }
}
