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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
