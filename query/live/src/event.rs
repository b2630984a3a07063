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

    fn message(event: Value) -> Option<EventMessage> {
        let event: Event = serde_json::from_value(event).expect("an event");
        message_of(&event, None)
    }

    fn argument(message: &EventMessage, name: &str) -> Value {
        let (_, value) = message.arguments.iter().find(|(n, _)| *n == name).expect(name);
        serde_json::from_str(value).expect("JSON")
    }

    fn names(message: &EventMessage) -> Vec<&'static str> {
        message.arguments.iter().map(|(name, _)| *name).collect()
    }

    const AT: &str = "2026-05-16T12:00:00Z";

    fn alert(step: &str, shadow: bool, device: Option<&str>) -> Value {
        let id = uuid::Uuid::nil();
        json!({
            "type": "alert", "event_id": id, "step": step, "ts": AT, "recorded_at": AT, "by": null,
            "note": null, "readings": [],
            "alert": {
                "id": id, "device_id": device, "alert_type": "overvoltage", "severity": "critical",
                "message": "line 1\nline 2", "value": null, "threshold": null, "metadata": null,
                "origin": "rule", "rule_id": null, "rule_version": null, "shadow": shadow,
                "backfilled": false, "silenced": false, "withdrawn": false, "acknowledged": false,
                "acknowledged_by": null, "acknowledged_at": null, "acknowledge_note": null,
                "created_at": AT, "raised_at": AT, "resolved_at": null, "resolved_by": null,
                "resolution": null, "incident_id": null, "reminded_at": null, "escalated_at": null,
            },
        })
    }

    #[test]
    fn an_alert_is_told_when_it_begins_and_when_it_ends() {
        for (step, kind) in [
            ("raised", Some(EventKind::AlertCreated)),
            ("cleared", Some(EventKind::AlertResolved)),
            ("resolved", Some(EventKind::AlertResolved)),
            ("withdrawn", Some(EventKind::AlertResolved)),
            ("acknowledged", None),
            ("amended", None),
            ("reminded", None),
            ("escalated", None),
        ] {
            let told = message(alert(step, false, Some("a")));
            assert_eq!(told.map(|m| m.kind), kind, "{step}");
            assert_eq!(message(alert(step, true, Some("a"))), None, "a rule that only records");
        }
    }

    #[test]
    fn an_alert_of_the_system_is_of_no_device() {
        let told = message(alert("raised", false, None)).expect("a message");
        assert_eq!((told.device.clone(), argument(&told, "device_id")), (None, Value::Null));
        let told = message(alert("raised", false, Some("a"))).expect("a message");
        assert_eq!(told.device.as_deref(), Some("a"));
        assert_eq!(names(&told), ["device_id", "alert"]);
        assert_eq!(argument(&told, "alert")["message"], "line 1\nline 2");
        let event = LiveEvent::new(told, StreamPosition::default(), EventOffset::default());
        let text = String::from_utf8(event.sse().to_vec()).expect("text");
        assert_eq!(text.lines().count(), 4, "a line break in a text is none in the stream: {text}");
        assert_eq!(event.hub().iter().filter(|byte| **byte == RECORD_END).count(), 1);
    }

    fn device(event: &str, status: &Value) -> Value {
        json!({
            "type": "device", "event_id": uuid::Uuid::nil(), "device_id": "a", "event": event, "ts": AT,
            "recorded_at": AT, "status": status, "previous": null, "reason": "silent", "detail": null,
        })
    }

    #[test]
    fn a_device_event_is_told_if_it_has_a_status_or_is_a_registration() {
        let told = message(device("status", &json!("offline"))).expect("a message");
        assert_eq!(
            (told.kind, names(&told)),
            (EventKind::DeviceStatusChanged, vec!["device_id", "status"])
        );
        let status = argument(&told, "status");
        assert_eq!(status, json!({"status": "offline", "reason": "silent", "ts": AT}));
        assert_eq!(message(device("update", &Value::Null)), None, "what only the lake keeps");
        // A device that can't be looked up is told by its id.
        let told = message(device("registered", &json!("online"))).expect("a message");
        assert_eq!(told.kind, EventKind::DeviceRegistered);
        assert_eq!(argument(&told, "device"), json!({"device_id": "a", "registered": true}));
    }

    #[test]
    fn commands_and_rollouts_are_told_with_their_outcome() {
        let id = uuid::Uuid::from_u128(5);
        let told = message(json!({
            "type": "command", "device_id": "a", "request_id": id, "command": "reboot",
            "status": "timeout", "response": null, "error": "no answer", "finished_at": AT,
        }));
        let told = told.expect("a message");
        assert_eq!((told.kind, told.device.as_deref()), (EventKind::CommandCompleted, Some("a")));
        assert_eq!(names(&told), ["device_id", "request_id", "response"]);
        assert_eq!(argument(&told, "request_id"), json!(id));
        let response = argument(&told, "response");
        assert_eq!(
            (&response["status"], &response["error"]),
            (&json!("timeout"), &json!("no answer"))
        );
        let counts = acuvim_model::RolloutCounts::default();
        let told = message(json!({
            "type": "rollout", "rollout_id": id, "version": "1.2.3", "state": "running", "stage": 1,
            "progress": "half", "devices": counts, "reason": null, "ts": AT,
        }));
        let told = told.expect("a message");
        assert_eq!((told.kind, told.device.clone()), (EventKind::RolloutProgress, None));
        assert_eq!(argument(&told, "rollout")["progress"], "half");
    }

    #[test]
    fn a_heartbeat_is_whole_whatever_fields_are_asked_for() {
        let beat = Reading::heartbeat("a\"b".into(), "{\"rssi\":-71}".to_owned());
        let wanted = "event: HeartbeatReceived\ndata: {\"device_id\":\"a\\\"b\",\"data\":{\"rssi\":-71}}\n\n";
        assert_eq!(beat.sse(None).as_ref(), wanted.as_bytes());
        assert_eq!(beat.sse(Some(&["voltage_l1_v"])), beat.sse(None));
        // A choice of fields is not kept for the next client.
        let fields = reading();
        let some = fields.hub(Some(&["x"]));
        assert_ne!(fields.hub(None), some);
        assert_eq!(fields.hub(Some(&["x"])), some);
        let none = String::from_utf8(fields.hub(Some(&[])).to_vec()).expect("text");
        assert!(none.contains("\"data\":{}"), "{none}");
    }

    #[test]
    fn a_notice_of_what_is_missing_reads_the_same_on_every_wire() {
        let missed = Missed { dropped: 2, merged: 1, gap: Some("gone\n".to_owned()) };
        let sse = String::from_utf8(missed.sse().to_vec()).expect("text");
        let data = sse.strip_prefix("event: EventsDropped\ndata: ").expect(&sse);
        let wanted = json!({"dropped": 2, "merged": 1, "gap": "gone\n"});
        assert_eq!(serde_json::from_str::<Value>(data).expect("JSON"), wanted);
        let hub = missed.hub();
        let hub: Value = serde_json::from_slice(&hub[..hub.len() - 1]).expect("JSON");
        assert_eq!(hub, json!({"type": 1, "target": "EventsDropped", "arguments": [wanted]}));
    }

    #[test]
    fn the_size_of_an_event_is_that_of_its_values() {
        let told = message(device("status", &json!("offline"))).expect("a message");
        let bytes: usize = told.arguments.iter().map(|(_, value)| value.len()).sum();
        let event = LiveEvent::new(told, StreamPosition::default(), EventOffset::default());
        assert!(bytes > 40 && event.size() == bytes);
    }
}
