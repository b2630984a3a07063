//! Events of alerts, devices, rollouts and commands. They go through the outbox into the event tables
//! of the lake, and to live clients.

use acuvim_wire::{
    Identity, Micros,
    entry::{Entry, EventRecord},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    alerts::Alert,
    commands::CommandStatus,
    devices::DeviceStatus,
    rollouts::{RolloutCounts, RolloutState},
};

/// The id of an alert, derived from its content: processing the same readings again gives the same id.
#[must_use]
pub fn alert_id(device_id: &str, what: &str, since: Micros) -> Uuid {
    // NULs between the parts, which no part has: `d1` and `rule` differ from `d` and `1rule`.
    let mut hash = Sha256::new();
    for part in [device_id.as_bytes(), b"\0", what.as_bytes(), b"\0", &since.to_be_bytes()] {
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// What happened to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStep {
    /// Its condition has held for long enough.
    Raised,
    /// Its condition is over.
    Cleared,
    /// A person has acknowledged it.
    Acknowledged,
    /// A person resolved it, or its rule was removed.
    Resolved,
    /// Late readings have changed its times.
    Amended,
    /// Late readings have shown that its condition never held.
    Withdrawn,
    /// Nobody has acknowledged it for a while.
    Reminded,
    /// Nobody has acknowledged it for a long time.
    Escalated,
}

impl AlertStep {
    /// The name in `alert_events.event`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Amended => "amended",
            Self::Withdrawn => "withdrawn",
            Self::Reminded => "reminded",
            Self::Escalated => "escalated",
        }
    }
}

/// A reference to a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The time of the reading, by the clock of the device.
    pub ts: Micros,
    /// Where the reading is in the log.
    pub at: Identity,
}

/// The readings that an episode of a rule is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The first reading that met the condition.
    pub started: Mark,
    /// The reading at which the condition had held for long enough.
    pub raised: Mark,
    /// The first reading after its end, and the one at which it had been over for long enough; none
    /// while it is open.
    pub ended: Option<(Mark, Mark)>,
    /// Whether it is the last of several episodes in quick succession.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
}

impl Marks {
    /// The identities of the readings.
    #[must_use]
    pub fn readings(&self) -> Vec<Identity> {
        let ended = self.ended.into_iter().flat_map(|(end, confirmed)| [end, confirmed]);
        let mut all: Vec<Identity> =
            [self.started, self.raised].into_iter().chain(ended).map(|mark| mark.at).collect();
        // One reading may both begin and raise an episode.
        all.dedup();
        all
    }
}

/// A row of `alert_events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertEvent {
    /// The id of the event.
    pub event_id: Uuid,
    /// What happened to the alert.
    pub step: AlertStep,
    /// When it happened, by the times of the readings.
    pub ts: DateTime<Utc>,
    /// When the system learned of it.
    pub recorded_at: DateTime<Utc>,
    /// The person who did it, if it was one.
    pub by: Option<String>,
    /// The note that the person left.
    pub note: Option<String>,
    /// The readings that caused it.
    pub readings: Vec<Identity>,
    /// The alert after the event.
    pub alert: Alert,
}

/// A row of `device_events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceEvent {
    /// The id of the event.
    pub event_id: Uuid,
    /// The id of the device.
    pub device_id: String,
    /// The type of event: `status`, `registered` or `update`.
    pub event: String,
    /// When it happened, by the clock of the device where it has one.
    pub ts: DateTime<Utc>,
    /// When the system learned of it.
    pub recorded_at: DateTime<Utc>,
    /// The status after the event.
    pub status: Option<DeviceStatus>,
    /// The status before the event.
    pub previous: Option<DeviceStatus>,
    /// Why it happened, in words.
    pub reason: Option<String>,
    /// Details, if there are any.
    pub detail: Option<serde_json::Value>,
}

/// The progress of a rollout, for live clients. What happens to its devices is kept in the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutProgress {
    /// The id of the rollout.
    pub rollout_id: Uuid,
    /// The firmware version that is installed.
    pub version: String,
    /// The state of the rollout.
    pub state: RolloutState,
    /// The current stage, from 1.
    pub stage: i64,
    /// A summary of the progress in one line.
    pub progress: String,
    /// The number of devices in each state.
    pub devices: RolloutCounts,
    /// The reason for the state.
    pub reason: Option<String>,
    /// The number of decisions so far: to start, go on, halt or end.
    #[serde(default)]
    pub decisions: i64,
    /// How often a person has resumed it.
    #[serde(default)]
    pub resumed: i64,
    /// When it came to this state.
    pub ts: DateTime<Utc>,
}

/// The end of a command, for live clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandCompleted {
    /// The id of the device.
    pub device_id: String,
    /// The id of the command.
    pub request_id: Uuid,
    /// The name of the command.
    pub command: String,
    /// The final status: `success`, `error` or `timeout`.
    pub status: CommandStatus,
    /// The device's response with secrets masked.
    pub response: Option<serde_json::Value>,
    /// Why the command failed, in words; none unless it did.
    pub error: Option<String>,
    /// When the command got its final status.
    pub finished_at: DateTime<Utc>,
}

/// An event of any type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A step of an alert.
    Alert(Box<AlertEvent>),
    /// A change of a device's state.
    Device(Box<DeviceEvent>),
    /// A step of a rollout.
    Rollout(Box<RolloutProgress>),
    /// The end of a command.
    Command(Box<CommandCompleted>),
}

impl Event {
    /// The device concerned; none for events of the system itself.
    #[must_use]
    pub fn device_id(&self) -> Option<&str> {
        match self {
            Self::Alert(event) => event.alert.device_id.as_deref(),
            Self::Device(event) => Some(&event.device_id),
            Self::Command(event) => Some(&event.device_id),
            Self::Rollout(_) => None,
        }
    }

    /// The type of the event in the log: the name of its table, if it has one.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Alert(_) => "alert_events",
            Self::Device(_) => "device_events",
            Self::Rollout(_) => "rollout_progress",
            Self::Command(_) => "command_completed",
        }
    }

    /// Its entry in the log. `body` is the event as JSON: the outbox stores it so, and need not write it
    /// a second time.
    #[must_use]
    pub fn to_entry(&self, outbox_seq: i64, body: Bytes) -> Entry {
        let device_id = self.device_id().unwrap_or_default().to_owned();
        EventRecord { device_id, kind: self.kind(), outbox_seq, body }.into()
    }

    /// Reads an entry of the events topic.
    ///
    /// # Errors
    /// When its value is not the JSON of an event, as one of a newer version may be.
    pub fn from_entry(entry: &Entry) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&entry.value)
    }
}

#[cfg(test)]
mod tests;
