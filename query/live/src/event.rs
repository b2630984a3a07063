//! Live events and readings, each encoded once for all clients that get it: as an invocation of the hub,
//! and as a server-sent event.

use std::sync::{Arc, OnceLock};

use acuvim_model::{
    Device,
    event::{AlertEvent, AlertStep, Event},
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::position::StreamPosition;

/// The byte that ends a record of the hub's protocol.
pub(crate) const RECORD_END: u8 = 0x1e;

/// The kind of an event: the method that the hub invokes, and the type of a server-sent event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum EventKind {
    /// A device is online, degraded or offline now.
    DeviceStatusChanged,
    /// A device has a newer latest reading.
    TelemetryReceived,
    /// A device has sent a heartbeat.
    HeartbeatReceived,
    /// An alert began.
    AlertCreated,
    /// An alert ended.
    AlertResolved,
    /// A command ended.
    CommandCompleted,
    /// A device is there that was not.
    DeviceRegistered,
    /// A rollout went on.
    RolloutProgress,
}

impl EventKind {
    pub const ALL: [Self; 8] = [
        Self::DeviceStatusChanged,
        Self::TelemetryReceived,
        Self::HeartbeatReceived,
        Self::AlertCreated,
        Self::AlertResolved,
        Self::CommandCompleted,
        Self::DeviceRegistered,
        Self::RolloutProgress,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeviceStatusChanged => "DeviceStatusChanged",
            Self::TelemetryReceived => "TelemetryReceived",
            Self::HeartbeatReceived => "HeartbeatReceived",
            Self::AlertCreated => "AlertCreated",
            Self::AlertResolved => "AlertResolved",
            Self::CommandCompleted => "CommandCompleted",
            Self::DeviceRegistered => "DeviceRegistered",
            Self::RolloutProgress => "RolloutProgress",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The name of the device event that says that a device was registered.
pub(crate) const REGISTERED: &str = "registered";

/// An event of the log. A client that misses it can read it there.
#[derive(Debug)]
pub(crate) struct LiveEvent {
    pub kind: EventKind,
    /// The device it is about; none for events of the system and of rollouts.
    pub device: Option<Arc<str>>,
    /// The position after it.
    pub position: StreamPosition,
    /// Where it is in the log.
    pub at: EventOffset,
    /// Names of its arguments, and their values as JSON.
    arguments: Vec<(&'static str, String)>,
    hub: OnceLock<Bytes>,
    sse: OnceLock<Bytes>,
}

impl LiveEvent {
    pub fn new(message: EventMessage, position: StreamPosition, at: EventOffset) -> Self {
        let EventMessage { kind, device, arguments } = message;
        let (hub, sse) = (OnceLock::new(), OnceLock::new());
        Self { kind, device, position, at, arguments, hub, sse }
    }

    /// Bytes of its arguments.
    pub fn size(&self) -> usize {
        self.arguments.iter().map(|(_, value)| value.len()).sum()
    }

    /// A record of the hub's protocol.
    pub fn hub(&self) -> &Bytes {
        self.hub.get_or_init(|| {
            let values = self.arguments.iter().map(|(_, value)| value.as_str());
            Bytes::from(invocation(self.kind.as_str(), values))
        })
    }

    /// A server-sent event, with its position as the id.
    pub fn sse(&self) -> &Bytes {
        self.sse.get_or_init(|| self.sse_at(&self.position))
    }

    /// The same with another position as the id: for a client that has seen more than this process.
    pub fn sse_at(&self, position: &StreamPosition) -> Bytes {
        let mut out = format!("id: {}\nevent: {}\n", position.encode(), self.kind.as_str());
        data(&self.arguments, &mut out);
        Bytes::from(out)
    }
}

/// Where an event is in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EventOffset {
    pub partition: usize,
    pub offset: i64,
}

/// An event for clients, before its position is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EventMessage {
    pub kind: EventKind,
    pub device: Option<Arc<str>>,
    pub arguments: Vec<(&'static str, String)>,
}

/// The message of an event for live clients; none of what only the lake keeps. `registered` is the device
/// of a registration, as it is now.
pub(crate) fn message_of(event: &Event, registered: Option<&Device>) -> Option<EventMessage> {
    let device = event.device_id().map(Arc::from);
    let id = || ("device_id", json!(event.device_id()).to_string());
    let (kind, arguments) = match event {
        Event::Alert(event) => {
            let kind = alert_kind(event)?;
            (kind, vec![id(), ("alert", json!(event.alert).to_string())])
        }
        Event::Device(event) if event.event == REGISTERED => {
            let device = match registered {
                Some(device) => json!(device),
                None => json!({"device_id": event.device_id, "registered": true}),
            };
            (EventKind::DeviceRegistered, vec![("device", device.to_string())])
        }
        Event::Device(event) => {
            let status = event.status?;
            let status = json!({"status": status, "reason": event.reason, "ts": event.ts});
            (EventKind::DeviceStatusChanged, vec![id(), ("status", status.to_string())])
        }
        Event::Rollout(event) => {
            (EventKind::RolloutProgress, vec![("rollout", json!(event).to_string())])
        }
        Event::Command(event) => {
            let response = json!({
                "command": event.command,
                "status": event.status,
                "response": event.response,
                "error": event.error,
                "finished_at": event.finished_at,
            });
            let request = ("request_id", json!(event.request_id).to_string());
            (EventKind::CommandCompleted, vec![id(), request, ("response", response.to_string())])
        }
    };
    Some(EventMessage { kind, device, arguments })
}

/// None for alerts of rules that only record, and for steps that neither begin nor end an alert.
fn alert_kind(event: &AlertEvent) -> Option<EventKind> {
    if event.alert.shadow {
        return None;
    }
    match event.step {
        AlertStep::Raised => Some(EventKind::AlertCreated),
        AlertStep::Cleared | AlertStep::Resolved | AlertStep::Withdrawn => {
            Some(EventKind::AlertResolved)
        }
        AlertStep::Acknowledged
        | AlertStep::Amended
        | AlertStep::Reminded
        | AlertStep::Escalated => None,
    }
}

/// The newest reading or heartbeat of a device. The next one replaces it for clients that have not got
/// it yet.
#[derive(Debug)]
pub(crate) struct Reading {
    pub kind: EventKind,
    pub device: Arc<str>,
    /// The object up to its last member, `data`; whole where it has no such member.
    head: String,
    /// The members of `data` by name, each as `"name":value`.
    cells: Vec<(&'static str, String)>,
    hub: OnceLock<Bytes>,
    sse: OnceLock<Bytes>,
}

impl Reading {
    /// A reading, as `GET .../telemetry` answers it, with the members of `data` apart.
    pub fn telemetry(device: Arc<str>, head: String, cells: Vec<(&'static str, String)>) -> Self {
        let (hub, sse) = (OnceLock::new(), OnceLock::new());
        Self { kind: EventKind::TelemetryReceived, device, head, cells, hub, sse }
    }

    /// A heartbeat, as JSON.
    pub fn heartbeat(device: Arc<str>, object: String) -> Self {
        let (hub, sse) = (OnceLock::new(), OnceLock::new());
        let cells = Vec::new();
        Self { kind: EventKind::HeartbeatReceived, device, head: object, cells, hub, sse }
    }

    /// The object, with these members of `data` or with all.
    fn object(&self, fields: Option<&[&'static str]>) -> String {
        if self.kind == EventKind::HeartbeatReceived {
            return self.head.clone();
        }
        let wanted = |name: &&str| fields.is_none_or(|fields| fields.contains(name));
        let cells = self.cells.iter().filter(|(name, _)| wanted(name));
        let cells: Vec<&str> = cells.map(|(_, cell)| cell.as_str()).collect();
        format!("{}\"data\":{{{}}}}}", self.head, cells.join(","))
    }

    fn arguments(&self, fields: Option<&[&'static str]>) -> [(&'static str, String); 2] {
        let id = json!(self.device.as_ref()).to_string();
        [("device_id", id), ("data", self.object(fields))]
    }

    /// A record of the hub's protocol.
    pub fn hub(&self, fields: Option<&[&'static str]>) -> Bytes {
        let write = || {
            let arguments = self.arguments(fields);
            let values = arguments.iter().map(|(_, value)| value.as_str());
            Bytes::from(invocation(self.kind.as_str(), values))
        };
        match fields {
            None => self.hub.get_or_init(write).clone(),
            Some(_) => write(),
        }
    }

    /// A server-sent event, without an id: a client can't resume after a reading.
    pub fn sse(&self, fields: Option<&[&'static str]>) -> Bytes {
        let write = || {
            let mut out = format!("event: {}\n", self.kind.as_str());
            data(&self.arguments(fields), &mut out);
            Bytes::from(out)
        };
        match fields {
            None => self.sse.get_or_init(write).clone(),
            Some(_) => write(),
        }
    }
}

/// What a client did not get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Missed {
    /// Readings and heartbeats that were dropped because the client reads too slowly.
    pub dropped: u64,
    /// Readings that a newer one of the same device replaced while the client was slow.
    pub merged: u64,
    /// Why events after the position that the client named are missing: the log no longer has them.
    pub gap: Option<String>,
}

impl Missed {
    fn value(&self) -> Value {
        json!({"dropped": self.dropped, "merged": self.merged, "gap": self.gap})
    }

    /// A record of the hub's protocol.
    pub fn hub(&self) -> Bytes {
        let value = self.value().to_string();
        Bytes::from(invocation("EventsDropped", std::iter::once(value.as_str())))
    }

    /// A server-sent event.
    pub fn sse(&self) -> Bytes {
        Bytes::from(format!("event: EventsDropped\ndata: {}\n\n", self.value()))
    }
}

/// An invocation without an answer, as a record.
pub(crate) fn invocation<'a>(target: &str, values: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut out = format!("{{\"type\":1,\"target\":\"{target}\",\"arguments\":[").into_bytes();
    for (n, value) in values.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"]}");
    out.push(RECORD_END);
    out
}

fn data(arguments: &[(&'static str, String)], out: &mut String) {
    out.push_str("data: {");
    for (n, (name, value)) in arguments.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(value);
    }
    out.push_str("}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        let cells = vec![
            ("voltage_l1_v", "\"voltage_l1_v\":230.1".to_owned()),
            ("x", "\"x\":1".to_owned()),
        ];
        Reading::telemetry("d1".into(), "{\"device_id\":\"d1\",".to_owned(), cells)
    }

    #[test]
    fn a_reading_is_told_whole_or_in_the_fields_that_were_asked_for() {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        assert_eq!(
            text(reading().hub(None)),
            "{\"type\":1,\"target\":\"TelemetryReceived\",\"arguments\":[\"d1\",{\"device_id\":\"d1\",\
             \"data\":{\"voltage_l1_v\":230.1,\"x\":1}}]}\u{1e}"
        );
        assert_eq!(
            text(reading().sse(Some(&["x"]))),
            "event: TelemetryReceived\ndata: {\"device_id\":\"d1\",\"data\":{\"device_id\":\"d1\",\
             \"data\":{\"x\":1}}}\n\n"
        );
    }

    #[test]
    fn an_event_names_the_position_of_whom_it_is_told() {
        use crate::position::PartitionPosition;

        let at = |next: i64| StreamPosition {
            epoch: 0,
            partitions: vec![PartitionPosition { next, seq: next }],
        };
        let message =
            EventMessage { kind: EventKind::AlertCreated, device: None, arguments: vec![] };
        let event = LiveEvent::new(message, at(5), EventOffset { partition: 0, offset: 4 });
        let text = |position: &StreamPosition| {
            format!("id: {}\nevent: AlertCreated\ndata: {{}}\n\n", position.encode())
        };
        assert_eq!(event.sse().as_ref(), text(&at(5)).as_bytes());
        assert_eq!(event.sse_at(&at(9)).as_ref(), text(&at(9)).as_bytes());
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(EventKind::parse("eventsdropped"), None);
    }
}
