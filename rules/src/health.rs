//! The status of a device, from two facts: whether it is connected, and how old its last message is.

use acuvim_model::DeviceStatus;
use acuvim_wire::{Micros, time::SECOND};

/// When a silent device changes its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Heartbeat intervals without a message until a device is degraded.
    pub degraded_after: u32,
    /// Heartbeat intervals without a message until it is offline.
    pub offline_after: u32,
    /// How long devices get to reconnect after the server was interrupted.
    pub grace: Micros,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { degraded_after: 3, offline_after: 5, grace: 300 * SECOND }
    }
}

/// Seconds between heartbeats of a device that does not report its interval.
const INTERVAL_S: i64 = 60;

/// The assumed distance between messages of a device that has sent one reading and no heartbeat.
const INITIAL_SPACING: Micros = 900 * SECOND;

/// Messages closer together than this are parts of one transmission, and say nothing about the spacing of
/// transmissions.
const SAME_TRANSMISSION: Micros = 5 * SECOND;

/// The presence of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The status after everything that was read so far.
    pub status: DeviceStatus,
    /// Whether it is connected, or `None` if it never sent its connection state.
    pub connected: Option<bool>,
    /// When its last message arrived.
    pub heard_at: Option<Micros>,
    /// Seconds between its heartbeats, if it reports that.
    pub interval_s: Option<i64>,
    /// The distance between its other messages, as observed since the start of this process. Used for devices
    /// that send no heartbeats.
    pub spacing: Option<Micros>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            status: DeviceStatus::Offline,
            connected: None,
            heard_at: None,
            interval_s: None,
            spacing: None,
        }
    }
}

/// A sign that a device is there, or is gone. Retained messages are none, because they may be old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// It sent a heartbeat.
    Heartbeat {
        /// When it arrived.
        at: Micros,
        /// Seconds between heartbeats, if it reports that.
        interval_s: Option<u32>,
    },
    /// It sent any other message, even an invalid one.
    Heard {
        /// When it arrived.
        at: Micros,
    },
    /// It sent the connection state `online`.
    Online {
        /// When it arrived.
        at: Micros,
    },
    /// It sent a registration. That does not show whether it will send its connection state.
    Announced {
        /// When it arrived.
        at: Micros,
    },
    /// It sent the connection state `offline`, itself or by its last will.
    Offline {
        /// When it arrived.
        at: Micros,
    },
}

impl Signal {
    /// When it arrived.
    #[must_use]
    pub const fn at(&self) -> Micros {
        match self {
            Self::Heartbeat { at, .. }
            | Self::Heard { at }
            | Self::Online { at }
            | Self::Announced { at }
            | Self::Offline { at } => *at,
        }
    }
}

/// A change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusChange {
    /// The status before.
    pub from: DeviceStatus,
    /// The status after.
    pub to: DeviceStatus,
    /// When it changed.
    pub at: Micros,
    /// The cause: `heartbeat`, `heard`, `connected`, `registered`, `disconnected`, `silent`.
    pub reason: &'static str,
}

/// The span of time over which the messages of a partition have been read without a gap. Silence can only be
/// observed inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Everything that arrived up to this time has been read.
    pub until: Micros,
    /// When reading without a gap began. Messages from before it may have been missed.
    pub since: Micros,
}

impl Health {
    /// Applies a signal, and returns the change of status that it makes, if any. Signals may come out of order
    /// by a little, because several ingests write to one partition.
    pub fn signal(&mut self, signal: Signal) -> Option<StatusChange> {
        let (to, reason) = match signal {
            Signal::Heartbeat { at, interval_s } => {
                self.heard_at = self.heard_at.max(Some(at));
                self.interval_s = interval_s.map(i64::from).or(self.interval_s);
                // Set only if the device sends its connection state at all.
                self.connected = self.connected.map(|_| true);
                (DeviceStatus::Online, "heartbeat")
            }
            Signal::Heard { at } => {
                self.learn_spacing(at);
                self.heard_at = self.heard_at.max(Some(at));
                // The last will of an earlier connection may have set this to false.
                self.connected = self.connected.map(|_| true);
                (DeviceStatus::Online, "heard")
            }
            Signal::Online { at } => {
                self.connected = Some(true);
                self.heard_at = self.heard_at.max(Some(at));
                (DeviceStatus::Online, "connected")
            }
            Signal::Announced { at } => {
                self.heard_at = self.heard_at.max(Some(at));
                self.connected = self.connected.map(|_| true);
                (DeviceStatus::Online, "registered")
            }
            // The time of the last message stays: a last will is sent by the broker.
            Signal::Offline { .. } => {
                self.connected = Some(false);
                (DeviceStatus::Offline, "disconnected")
            }
        };
        self.change(to, signal.at(), reason)
    }

    fn change(
        &mut self,
        to: DeviceStatus,
        at: Micros,
        reason: &'static str,
    ) -> Option<StatusChange> {
        let from = std::mem::replace(&mut self.status, to);
        (from != to).then_some(StatusChange { from, to, at, reason })
    }

    /// Follows a longer distance at once and a shorter one slowly, so that an outage is forgotten after some
    /// messages.
    fn learn_spacing(&mut self, at: Micros) {
        let apart =
            self.heard_at.map(|heard| at - heard).filter(|apart| *apart >= SAME_TRANSMISSION);
        self.spacing = match (self.spacing, apart) {
            (None, _) => Some(INITIAL_SPACING),
            (Some(spacing), Some(apart)) => Some(apart.max(spacing - spacing / 8)),
            (spacing, None) => spacing,
        };
    }

    fn interval(&self) -> Micros {
        let (default, longest) = (INTERVAL_S * SECOND, 86_400 * SECOND);
        match self.interval_s {
            Some(seconds) => seconds.clamp(1, 86_400) * SECOND,
            // A reported interval may be shorter than a minute; an observed one may be two messages
            // in a row.
            None => self.spacing.map_or(default, |spacing| spacing.clamp(default, longest)),
        }
    }

    /// When silence changes the status next, or `None` if it can't get worse.
    #[must_use]
    pub fn due(&self, policy: &HealthPolicy) -> Option<Micros> {
        let heard = self.heard_at?;
        match (self.status, self.connected) {
            (DeviceStatus::Online, _) => {
                Some(heard + i64::from(policy.degraded_after) * self.interval())
            }
            (DeviceStatus::Degraded, Some(true)) | (DeviceStatus::Offline, _) => None,
            (DeviceStatus::Degraded, _) => {
                Some(heard + i64::from(policy.offline_after) * self.interval())
            }
        }
    }

    /// Applies silence up to now. A connected device becomes degraded at worst. A device whose last message is
    /// from before the span gets the grace time first.
    pub fn silence(&mut self, listening: Listening, policy: &HealthPolicy) -> Vec<StatusChange> {
        let mut changes = Vec::new();
        while let Some(due) = self.due(policy) {
            let heard = self.heard_at.unwrap_or(due);
            // Until the span began nobody listened, so the silence of that time shows nothing, and
            // all devices reconnect at once.
            let due = match heard < listening.since {
                true => listening.since + policy.grace + (due - heard),
                false => due,
            };
            if due > listening.until {
                break;
            }
            let to = match self.status {
                DeviceStatus::Online => DeviceStatus::Degraded,
                _ => DeviceStatus::Offline,
            };
            changes.extend(self.change(to, due, "silent"));
        }
        changes
    }
}

#[cfg(test)]
mod tests;
