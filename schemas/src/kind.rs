//! The kinds of record on the uplink topic.

use std::fmt;

/// What a log record is: the six things a device says, and what ingest itself has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Readings, live or drained from the SD card.
    Telemetry,
    /// Device health.
    Heartbeat,
    /// An answer to a command.
    Resp,
    /// Connection state, and the last will.
    Status,
    /// An alert that the device itself raises or clears.
    Alerts,
    /// A device announces itself.
    Register,
    /// Ingest could not take a message: its remains, with the reason in the headers.
    Reject,
    /// Ingest handed a command over.
    Sent,
    /// Ingest is there and hears devices: what makes time pass for those that fall silent.
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

/// What a device may say. What ingest says itself is no part of it, so that no topic can mean it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Readings, live or drained from the SD card.
    Telemetry,
    /// Its health.
    Heartbeat,
    /// An answer to a command.
    Resp,
    /// Its connection's state, and the last will.
    Status,
    /// An alert that it raises or clears itself.
    Alerts,
    /// It announces itself.
    Register,
}

impl DeviceKind {
    /// All that a device may say.
    pub const ALL: [Self; 6] =
        [Self::Telemetry, Self::Heartbeat, Self::Resp, Self::Status, Self::Alerts, Self::Register];

    /// What a device has a topic of its own for: all but its registration.
    pub const WITH_TOPIC: [Self; 5] =
        [Self::Telemetry, Self::Heartbeat, Self::Resp, Self::Status, Self::Alerts];

    /// The kind that a device's topic names.
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
    /// The same as what a device says; none for what ingest says itself.
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
