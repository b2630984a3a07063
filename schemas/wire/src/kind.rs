//! The kinds of record on the uplink topic.

use std::fmt;

/// The kind of a record: the six kinds of message that devices send, and those that ingest adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Readings, live or drained from the SD card.
    Telemetry,
    /// A sign of life with the health of the device.
    Heartbeat,
    /// A response to a command.
    Resp,
    /// Connection state, or a last will.
    Status,
    /// An alert that the device raises or clears.
    Alerts,
    /// What a device is and can do.
    Register,
    /// A message that ingest refused: what is kept of it, with the reason in the headers.
    Reject,
    /// The report of ingest on a command.
    Sent,
    /// Ingest is listening. Lets time pass in a partition whose devices are silent.
    Pulse,
}

impl Kind {
    /// Every kind, in the order of the protocol document.
    pub const ALL: [Self; 9] = [
        Self::Telemetry,
        Self::Heartbeat,
        Self::Resp,
        Self::Status,
        Self::Alerts,
        Self::Register,
        Self::Reject,
        Self::Sent,
        Self::Pulse,
    ];

    /// The name in topics, headers and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Heartbeat => "heartbeat",
            Self::Resp => "resp",
            Self::Status => "status",
            Self::Alerts => "alerts",
            Self::Register => "register",
            Self::Reject => "reject",
            Self::Sent => "sent",
            Self::Pulse => "pulse",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == name)
    }
}

/// The kinds of message that devices send. Those that ingest writes are excluded by type, so that no
/// topic can stand for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Readings, live or drained from the SD card.
    Telemetry,
    /// A sign of life with the health of the device.
    Heartbeat,
    /// A response to a command.
    Resp,
    /// Connection state, or a last will.
    Status,
    /// An alert that the device raises or clears.
    Alerts,
    /// What a device is and can do.
    Register,
}

impl DeviceKind {
    /// Every kind that devices send.
    pub const ALL: [Self; 6] =
        [Self::Telemetry, Self::Heartbeat, Self::Resp, Self::Status, Self::Alerts, Self::Register];

    /// The kinds with a topic for each device: all but registrations.
    pub const WITH_TOPIC: [Self; 5] =
        [Self::Telemetry, Self::Heartbeat, Self::Resp, Self::Status, Self::Alerts];

    /// The kind with this name in a device's topic.
    #[must_use]
    pub fn of_topic(name: &str) -> Option<Self> {
        Self::WITH_TOPIC.into_iter().find(|kind| Kind::from(*kind).as_str() == name)
    }
}

impl From<DeviceKind> for Kind {
    fn from(kind: DeviceKind) -> Self {
        match kind {
            DeviceKind::Telemetry => Self::Telemetry,
            DeviceKind::Heartbeat => Self::Heartbeat,
            DeviceKind::Resp => Self::Resp,
            DeviceKind::Status => Self::Status,
            DeviceKind::Alerts => Self::Alerts,
            DeviceKind::Register => Self::Register,
        }
    }
}

impl Kind {
    /// The same kind, if devices send it; none for those that ingest writes.
    #[must_use]
    pub const fn of_device(self) -> Option<DeviceKind> {
        match self {
            Self::Telemetry => Some(DeviceKind::Telemetry),
            Self::Heartbeat => Some(DeviceKind::Heartbeat),
            Self::Resp => Some(DeviceKind::Resp),
            Self::Status => Some(DeviceKind::Status),
            Self::Alerts => Some(DeviceKind::Alerts),
            Self::Register => Some(DeviceKind::Register),
            Self::Reject | Self::Sent | Self::Pulse => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
