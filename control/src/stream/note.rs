//! What a run of records says of one device, and how two such notes become one.

use acuvim_schemas::{
    api::DeviceStatus,
    payload::{Heartbeat, Registration},
};
use chrono::{DateTime, Utc};

/// Announcements of one device that are kept until they are stored.
const MOST_REGISTRATIONS: usize = 4;

/// What a run of records says of one device, brought together.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceNote {
    /// Which.
    pub device_id: String,
    /// When the last of it came.
    pub at: DateTime<Utc>,
    /// The time of its newest reading.
    pub telemetry: Option<DateTime<Utc>>,
    /// Its newest heartbeat, by its own time.
    pub heartbeat: Option<(DateTime<Utc>, Box<Heartbeat>)>,
    /// Its changes of status, in order.
    pub status: Vec<StatusStep>,
    /// Whether its connection is there, if that is known, and when it was last heard.
    pub presence: Option<(Option<bool>, Option<DateTime<Utc>>)>,
    /// What is kept of its heartbeats, as JSON.
    pub vitals: Option<String>,
    /// What happened to it beside that, in order.
    pub happened: Vec<DeviceHappening>,
    /// What it announced itself as.
    pub registrations: Vec<Registration>,
    /// Whether it was heard live, so that what waits for it can go.
    pub heard: bool,
    /// Whether it came back: connected anew, or started.
    pub back: bool,
    /// Whether it went.
    pub gone: bool,
    /// Whether it tells only of a device that is known: one that was deleted stays so.
    pub of_known: bool,
}

/// Something that happened to a device and is told as an event.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceHappening {
    /// What: `clock`.
    pub event: &'static str,
    /// Why, or how.
    pub reason: &'static str,
    /// When.
    pub at: DateTime<Utc>,
    /// More.
    pub detail: serde_json::Value,
}

/// A change of a device's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusStep {
    /// The status before.
    pub from: DeviceStatus,
    /// And from then on.
    pub to: DeviceStatus,
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: &'static str,
}

impl DeviceNote {
    /// Adds what was said later.
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
        // The last one has it all, but for what it does not say.
        self.registrations.extend(later.registrations);
        let many = self.registrations.len().saturating_sub(MOST_REGISTRATIONS);
        self.registrations.drain(..many);
        self.heard = later.heard || (self.heard && !later.gone);
        self.back = later.back || (self.back && !later.gone);
        self.gone = later.gone || (self.gone && !later.heard);
        self.of_known &= later.of_known;
    }

    /// What may not be stored twice, by itself: changes of status, and what they are told from.
    #[must_use]
    pub fn said_once(&self) -> Option<Self> {
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

    /// Everything else, which is the same however often it is stored.
    #[must_use]
    pub fn said_again(self) -> Self {
        match self.said_once() {
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

    /// Nothing yet.
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
}
