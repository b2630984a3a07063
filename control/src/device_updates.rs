//! What a run of log records says about one device, and how two such updates merge into one.

use acuvim_wire::payload::{Heartbeat, Registration};
use chrono::{DateTime, Utc};

use crate::device_events::{NewDeviceEvent, StatusStep};

/// Registrations of one device that are kept until they are stored.
const MAX_REGISTRATIONS: usize = 4;

/// What a run of log records says about one device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceUpdate {
    /// The id of the device.
    pub device_id: String,
    /// When the last of its records arrived.
    pub at: DateTime<Utc>,
    /// The time of its newest reading.
    pub telemetry: Option<DateTime<Utc>>,
    /// Its newest heartbeat, by the device's own time.
    pub heartbeat: Option<(DateTime<Utc>, Box<Heartbeat>)>,
    /// Its changes of status, in order.
    pub status: Vec<StatusStep>,
    /// Whether it is connected, as far as is known, and when its last message arrived.
    pub presence: Option<(Option<bool>, Option<DateTime<Utc>>)>,
    /// The state that is kept between its heartbeats, as JSON.
    pub vitals: Option<String>,
    /// Further events, in order.
    pub happened: Vec<NewDeviceEvent>,
    /// Its registrations, in order.
    pub registrations: Vec<Registration>,
    /// Whether a live message came from it, so that commands which wait for it can be sent.
    pub heard: bool,
    /// Whether it reconnected or restarted.
    pub back: bool,
    /// Whether it disconnected.
    pub gone: bool,
    /// Whether the update is only for a device that is already known. Without this, a late update
    /// would bring a deleted device back.
    pub of_known: bool,
}

impl DeviceUpdate {
    /// An update without content.
    #[must_use]
    pub fn new(device_id: &str, at: DateTime<Utc>) -> Self {
        Self {
            device_id: device_id.to_owned(),
            at,
            telemetry: None,
            heartbeat: None,
            status: Vec::new(),
            presence: None,
            vitals: None,
            happened: Vec::new(),
            registrations: Vec::new(),
            heard: false,
            back: false,
            gone: false,
            of_known: false,
        }
    }

    /// Merges a later update of the same device into this one.
    pub fn merge(&mut self, later: Self) {
        self.at = self.at.max(later.at);
        self.telemetry = self.telemetry.max(later.telemetry);
        let newest = self.heartbeat.as_ref().map(|(ts, _)| *ts);
        if later.heartbeat.as_ref().map(|(ts, _)| *ts) > newest {
            self.heartbeat = later.heartbeat;
        }
        self.status.extend(later.status);
        self.presence = later.presence.or(self.presence);
        self.vitals = later.vitals.or(self.vitals.take());
        self.happened.extend(later.happened);
        // Stored one after the other, each overwrites the fields that it has; a few are enough for the
        // fields that the last one lacks.
        self.registrations.extend(later.registrations);
        let excess = self.registrations.len().saturating_sub(MAX_REGISTRATIONS);
        self.registrations.drain(..excess);
        self.heard = later.heard || (self.heard && !later.gone);
        self.back = later.back || (self.back && !later.gone);
        self.gone = later.gone || (self.gone && !later.heard);
        self.of_known &= later.of_known;
    }

    /// The part that must be stored exactly once, if there is any: changes of status, events, and the
    /// state that these are derived from.
    #[must_use]
    pub fn once_only(&self) -> Option<Self> {
        if self.status.is_empty() && self.vitals.is_none() && self.happened.is_empty() {
            return None;
        }
        Some(Self {
            status: self.status.clone(),
            presence: self.presence,
            vitals: self.vitals.clone(),
            happened: self.happened.clone(),
            of_known: true,
            ..Self::new(&self.device_id, self.at)
        })
    }

    /// The rest, which is idempotent: storing it again changes nothing.
    #[must_use]
    pub fn repeatable(self) -> Self {
        match self.once_only() {
            Some(_) => Self {
                status: Vec::new(),
                presence: None,
                vitals: None,
                happened: Vec::new(),
                ..self
            },
            None => self,
        }
    }
}

#[cfg(test)]
mod tests;
