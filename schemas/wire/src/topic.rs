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
    // Before the prefix, which may be `devices` as well.
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
        // Brokers don't deliver such topics to subscriptions with a wildcard (MQTT 5.0, 4.7.2).
        && !prefix.starts_with('$')
        && prefix.split('/').all(|level| !level.is_empty() && !level.contains(['+', '#', '\0']))
}

#[cfg(test)]
mod tests;
