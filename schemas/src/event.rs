//! What happens to alerts and devices, as it goes through the outbox: into the lake's event tables,
//! and to whoever listens live.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    error::ArrowError,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    Identity,
    api::{Alert, DeviceStatus, RolloutCounts, RolloutState},
    command::CommandStatus,
    record::FORMAT,
    tables::Table,
    time::{Micros, day_of},
};

/// The id of an alert: the same whoever finds it, however often.
#[must_use]
pub fn alert_id(device_id: &str, what: &str, since: Micros) -> Uuid {
    let mut hash = Sha256::new();
    for part in [device_id.as_bytes(), b"\0", what.as_bytes(), b"\0", &since.to_be_bytes()] {
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A step of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStep {
    /// It began.
    Raised,
    /// Its condition ended.
    Cleared,
    /// A person has seen it.
    Acknowledged,
    /// A person, or the end of its rule, ended it.
    Resolved,
    /// Late readings changed its times.
    Amended,
    /// Late readings showed that it never was.
    Withdrawn,
    /// Nobody has acknowledged it for a while.
    Reminded,
    /// Nobody has for long.
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

/// A reading: when it was taken, and what it is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its event time.
    pub ts: Micros,
    /// Its identity.
    pub at: Identity,
}

/// The readings that an episode of a rule rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The first reading that breached.
    pub started: Mark,
    /// The reading by which it had held for long enough.
    pub raised: Mark,
    /// Its true end, and the reading by which it had been over for long enough; none while open.
    pub ended: Option<(Mark, Mark)>,
    /// Whether it is the last of several that began shortly one after the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
}

impl Marks {
    /// The readings' identities.
    #[must_use]
    pub fn readings(&self) -> Vec<Identity> {
        let ended = self.ended.into_iter().flat_map(|(end, confirmed)| [end, confirmed]);
        let mut all: Vec<Identity> =
            [self.started, self.raised].into_iter().chain(ended).map(|mark| mark.at).collect();
        all.dedup();
        all
    }
}

/// A row of `alert_events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertEvent {
    /// The event's id.
    pub event_id: Uuid,
    /// What happened.
    pub step: AlertStep,
    /// When, in event time.
    pub ts: DateTime<Utc>,
    /// When it became known.
    pub recorded_at: DateTime<Utc>,
    /// Who did it, where a person did.
    pub by: Option<String>,
    /// What the person said.
    pub note: Option<String>,
    /// The readings that made it happen.
    pub readings: Vec<Identity>,
    /// The alert as it is from then on.
    pub alert: Alert,
}

/// A row of `device_events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceEvent {
    /// The event's id.
    pub event_id: Uuid,
    /// Whose.
    pub device_id: String,
    /// What happened: `status`, `registered`, `update`.
    pub event: String,
    /// When.
    pub ts: DateTime<Utc>,
    /// When it became known.
    pub recorded_at: DateTime<Utc>,
    /// The status from then on.
    pub status: Option<DeviceStatus>,
    /// The status before.
    pub previous: Option<DeviceStatus>,
    /// Why.
    pub reason: Option<String>,
    /// More, where there is.
    pub detail: Option<serde_json::Value>,
}

/// How a rollout is, for whoever follows it live. The lake keeps what happens to its devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutProgress {
    /// Which.
    pub rollout_id: Uuid,
    /// What it brings.
    pub version: String,
    /// How it is.
    pub state: RolloutState,
    /// The stage that it is in, from 1.
    pub stage: i64,
    /// How far it has come, in a line.
    pub progress: String,
    /// How many devices are in which state.
    pub devices: RolloutCounts,
    /// Why it is as it is.
    pub reason: Option<String>,
    /// How many decisions have been made about it: with each it began, went on, halted or ended.
    #[serde(default)]
    pub decisions: i64,
    /// How often a person has let it go on or try again.
    #[serde(default)]
    pub resumed: i64,
    /// When.
    pub ts: DateTime<Utc>,
}

/// How a command ended, for whoever follows it live; it itself is in control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandCompleted {
    /// Whose.
    pub device_id: String,
    /// Which.
    pub request_id: Uuid,
    /// What it was.
    pub command: String,
    /// How it ended: `success`, `error` or `timeout`.
    pub status: CommandStatus,
    /// What the device answered, secrets masked.
    pub response: Option<serde_json::Value>,
    /// What went wrong.
    pub error: Option<String>,
    /// When.
    pub finished_at: DateTime<Utc>,
}

/// Anything that happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// To an alert.
    Alert(Box<AlertEvent>),
    /// To a device.
    Device(Box<DeviceEvent>),
    /// To a rollout.
    Rollout(Box<RolloutProgress>),
    /// To a command: its end.
    Command(Box<CommandCompleted>),
}

impl Event {
    /// Whose it is; none for the system's own.
    #[must_use]
    pub fn device_id(&self) -> Option<&str> {
        match self {
            Self::Alert(event) => event.alert.device_id.as_deref(),
            Self::Device(event) => Some(&event.device_id),
            Self::Command(event) => Some(&event.device_id),
            Self::Rollout(_) => None,
        }
    }

    /// What it is called in the log: the table that keeps it, where one does.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Alert(_) => Table::AlertEvents.name(),
            Self::Device(_) => Table::DeviceEvents.name(),
            Self::Rollout(_) => "rollout_progress",
            Self::Command(_) => "command_completed",
        }
    }

    /// The headers of its record in the log.
    #[must_use]
    pub fn to_pairs(&self, outbox_seq: i64) -> Vec<(&'static str, Bytes)> {
        vec![
            ("v", Bytes::from_static(FORMAT.as_bytes())),
            ("type", Bytes::from_static(self.kind().as_bytes())),
            ("outbox_seq", Bytes::from(outbox_seq.to_string())),
        ]
    }
}

/// Events as rows of their table; those of another are passed over.
///
/// # Errors
/// Only if columns and schemas have come apart.
pub fn rows(table: Table, events: &[Event]) -> Result<RecordBatch, ArrowError> {
    match table {
        Table::AlertEvents => {
            let alerts = events.iter().filter_map(|event| match event {
                Event::Alert(event) => Some(event.as_ref()),
                Event::Device(_) | Event::Rollout(_) | Event::Command(_) => None,
            });
            alert_rows(&alerts.collect::<Vec<_>>())
        }
        Table::DeviceEvents => {
            let devices = events.iter().filter_map(|event| match event {
                Event::Device(event) => Some(event.as_ref()),
                Event::Alert(_) | Event::Rollout(_) | Event::Command(_) => None,
            });
            device_rows(&devices.collect::<Vec<_>>())
        }
        other => Ok(RecordBatch::new_empty(other.schema())),
    }
}

fn texts<'a, T: 'a>(events: &[&'a T], get: impl Fn(&'a T) -> Option<String>) -> ArrayRef {
    Arc::new(events.iter().map(|event| get(event)).collect::<StringArray>())
}

fn times<'a, T: 'a>(events: &[&'a T], get: impl Fn(&'a T) -> DateTime<Utc>) -> ArrayRef {
    let times = events.iter().map(|event| get(event).timestamp_micros());
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn days<'a, T: 'a>(events: &[&'a T], get: impl Fn(&'a T) -> DateTime<Utc>) -> ArrayRef {
    let days = events.iter().map(|event| day_of(get(event).timestamp_micros()));
    Arc::new(Date32Array::from_iter_values(days))
}

fn alert_rows(events: &[&AlertEvent]) -> Result<RecordBatch, ArrowError> {
    let flag = |get: fn(&Alert) -> bool| -> ArrayRef {
        Arc::new(events.iter().map(|e| Some(get(&e.alert))).collect::<BooleanArray>())
    };
    let real = |get: fn(&Alert) -> Option<f64>| -> ArrayRef {
        Arc::new(events.iter().map(|e| get(&e.alert)).collect::<Float64Array>())
    };
    let readings = |event: &AlertEvent| {
        let all: Vec<String> = event.readings.iter().map(ToString::to_string).collect();
        (!all.is_empty()).then(|| serde_json::json!(all).to_string())
    };
    let versions: Int64Array = events.iter().map(|e| e.alert.rule_version).collect();
    let columns = vec![
        texts(events, |e| Some(e.event_id.to_string())),
        texts(events, |e| Some(e.alert.id.to_string())),
        texts(events, |e| e.alert.device_id.clone()),
        times(events, |e| e.ts),
        times(events, |e| e.recorded_at),
        texts(events, |e| Some(e.step.as_str().to_owned())),
        texts(events, |e| Some(e.alert.alert_type.clone())),
        texts(events, |e| Some(e.alert.severity.as_str().to_owned())),
        texts(events, |e| Some(e.alert.origin.as_str().to_owned())),
        texts(events, |e| Some(e.alert.message.clone())),
        real(|a| a.value),
        real(|a| a.threshold),
        texts(events, |e| e.alert.rule_id.map(|id| id.to_string())),
        Arc::new(versions),
        flag(|a| a.shadow),
        flag(|a| a.silenced),
        flag(|a| a.backfilled),
        texts(events, |e| e.alert.incident_id.map(|id| id.to_string())),
        texts(events, |e| e.by.clone()),
        texts(events, |e| e.note.clone()),
        texts(events, readings),
        days(events, |e| e.ts),
    ];
    RecordBatch::try_new(Table::AlertEvents.schema(), columns)
}

fn device_rows(events: &[&DeviceEvent]) -> Result<RecordBatch, ArrowError> {
    let status = |status: Option<DeviceStatus>| status.map(|s| s.as_str().to_owned());
    let columns = vec![
        texts(events, |e| Some(e.event_id.to_string())),
        texts(events, |e| Some(e.device_id.clone())),
        times(events, |e| e.ts),
        times(events, |e| e.recorded_at),
        texts(events, |e| Some(e.event.clone())),
        texts(events, |e| status(e.status)),
        texts(events, |e| status(e.previous)),
        texts(events, |e| e.reason.clone()),
        texts(events, |e| e.detail.as_ref().map(ToString::to_string)),
        days(events, |e| e.ts),
    ];
    RecordBatch::try_new(Table::DeviceEvents.schema(), columns)
}
