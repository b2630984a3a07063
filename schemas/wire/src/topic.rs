//! MQTT topics: those that devices publish to, and the one on which a device takes commands.

use crate::{
    device::is_device_id,
    kind::{DeviceKind, Kind},
};

/// The topic of registrations, which all devices share: it tells us the ids of new ones.
pub const REGISTER: &str = "devices/register";

/// What a topic tells about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink<'a> {
    /// One of the five topics that a device has of its own.
    Device {
        /// The id in the topic, which counts, and not one in the payload.
        device_id: &'a str,
        /// The kind of message.
        kind: DeviceKind,
    },
    /// `devices/register`: the device id is in the payload.
    Register,
    /// A device topic with an invalid device id.
    BadDeviceId {
        /// The kind of message.
        kind: DeviceKind,
    },
    /// None of our topics.
    Foreign,
}

/// Parses an uplink topic under the configured prefix (`acuvim` by default).
#[must_use]
pub fn parse<'a>(prefix: &str, topic: &'a str) -> Uplink<'a> {
    if topic == REGISTER {
        return Uplink::Register;
    }
    let Some((device_id, kind)) = topic
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.rsplit_once('/'))
        .and_then(|(id, name)| DeviceKind::of_topic(name).map(|kind| (id, kind)))
    else {
        return Uplink::Foreign;
    };
    if is_device_id(device_id) {
        Uplink::Device { device_id, kind }
    } else {
        Uplink::BadDeviceId { kind }
    }
}

/// The topic on which a device publishes messages of a kind.
#[must_use]
pub fn uplink(prefix: &str, device_id: &str, kind: Kind) -> String {
    match kind {
        Kind::Register => REGISTER.to_owned(),
        other => format!("{prefix}/{device_id}/{other}"),
    }
}

/// The topic on which a device takes commands.
#[must_use]
pub fn command(prefix: &str, device_id: &str) -> String {
    format!("{prefix}/{device_id}/cmd")
}

/// Whether the text can be the prefix of our topics: one or more levels, no wildcards, no empty level.
#[must_use]
pub fn is_prefix(prefix: &str) -> bool {
    !prefix.is_empty()
        && prefix.len() <= 128
        && !prefix.starts_with('$')
        && prefix.split('/').all(|level| !level.is_empty() && !level.contains(['+', '#', '\0']))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
