//! Events about devices, for the outbox.

use acuvim_model::{
    DeviceStatus,
    event::{DeviceEvent, Event},
};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{db::Tx, error::Error};

/// The kind of a device event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceEventKind {
    /// A device became known.
    Registered,
    /// Its status changed.
    Status,
    /// Its update by a rollout entered another state.
    Update,
    /// Its clock began or ceased to be ahead.
    Clock,
    /// One of its counters showed an impossible value.
    CounterSuspect,
    /// Its registration has fields of an unexpected type.
    OddFields,
}

impl DeviceEventKind {
    /// The name on the wire and in the lake.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Status => "status",
            Self::Update => "update",
            Self::Clock => "clock",
            Self::CounterSuspect => "counter_suspect",
            Self::OddFields => "odd_fields",
        }
    }
}

/// A device event to be emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDeviceEvent {
    /// The kind of event.
    pub kind: DeviceEventKind,
    /// The cause, as one word: `ahead`, `implausible`.
    pub reason: &'static str,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Further fields, which depend on the type.
    pub detail: Json,
}

/// A change of a device's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusStep {
    /// The status before.
    pub from: DeviceStatus,
    /// The status after.
    pub to: DeviceStatus,
    /// When it changed.
    pub at: DateTime<Utc>,
    /// The cause, as one word: `heartbeat`, `silent`.
    pub reason: &'static str,
}

/// How a device became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegisteredBy {
    /// Its first message of any kind.
    Message,
    /// A registration that it sent.
    Registration,
    /// A person or program, over HTTP.
    Person,
}

impl RegisteredBy {
    const fn reason(self) -> &'static str {
        match self {
            Self::Message => "heard",
            Self::Registration => "announced",
            Self::Person => "entered",
        }
    }
}

/// An event with the fields that every kind has.
fn event(device_id: &str, kind: DeviceEventKind, at: DateTime<Utc>) -> DeviceEvent {
    DeviceEvent {
        event_id: Uuid::now_v7(),
        device_id: device_id.to_owned(),
        event: kind.as_str().to_owned(),
        ts: at,
        recorded_at: at,
        status: None,
        previous: None,
        reason: None,
        detail: None,
    }
}

impl Tx {
    /// Emits an event about a device.
    pub(crate) async fn emit_device_event(
        &mut self,
        device_id: &str,
        new: &NewDeviceEvent,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let event = DeviceEvent {
            recorded_at: now,
            reason: Some(new.reason.to_owned()),
            detail: Some(new.detail.clone()),
            ..event(device_id, new.kind, new.at)
        };
        self.emit(&Event::Device(Box::new(event)), now).await
    }

    /// Emits that a device became known.
    pub(crate) async fn emit_registered(
        &mut self,
        device_id: &str,
        by: RegisteredBy,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let event = DeviceEvent {
            reason: Some(by.reason().to_owned()),
            ..event(device_id, DeviceEventKind::Registered, at)
        };
        self.emit(&Event::Device(Box::new(event)), at).await
    }

    /// Emits a change of a device's status.
    pub(crate) async fn emit_status(
        &mut self,
        device_id: &str,
        step: &StatusStep,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let event = DeviceEvent {
            recorded_at: now,
            status: Some(step.to),
            previous: Some(step.from),
            reason: Some(step.reason.to_owned()),
            ..event(device_id, DeviceEventKind::Status, step.at)
        };
        self.emit(&Event::Device(Box::new(event)), now).await
    }

    /// Emits that a device's update entered another state.
    pub(crate) async fn emit_update(
        &mut self,
        device_id: &str,
        reason: String,
        detail: Json,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let event = DeviceEvent {
            reason: Some(reason),
            detail: Some(detail),
            ..event(device_id, DeviceEventKind::Update, now)
        };
        self.emit(&Event::Device(Box::new(event)), now).await
    }
}
