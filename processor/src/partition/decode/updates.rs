//! Collects the changes that records make in control, by device. Pure.

use std::collections::HashMap;

use acuvim_control::{Answer, Changes, DeviceUpdate};
use acuvim_rules::Signal;
use acuvim_wire::{
    DeadLetter, Identity, Kind, Micros, Reason, Record,
    command::Delivery,
    payload::{self, Connection, EventTime, Heartbeat, Payload, Status},
    telemetry::Limits,
    time,
    vitals::Vitals,
};
use chrono::{DateTime, Utc};

use crate::api_time::api_time;

/// A report of a device about its own condition. What it means depends on the reports before it, so
/// they are kept in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeviceReport {
    /// It was heard, or its connection began or ended.
    Signal(Signal),
    /// A heartbeat, with the device's time.
    Vitals { ts: Micros, boot: Option<u64>, uptime_ms: Option<u64>, vitals: Vitals },
    /// The last will of a connection arrived at a time when the device had a newer one.
    TakenOver { at: Micros },
    /// The time in a message that arrived at `at`: by how much it is ahead of that, or `None` if it
    /// is not.
    Clock { at: Micros, ahead: Option<Micros> },
}

/// A record that replays a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The dead letter.
    pub letter: Identity,
    /// The offset of the replay.
    pub offset: i64,
    /// Whether it decodes now; if not, it is a dead letter again.
    pub decoded: bool,
    /// Whether it becomes a row of its own.
    pub has_row: bool,
}

/// The positions of a run of equal clock reports of one device.
#[derive(Debug, Clone, Copy)]
struct ClockReports {
    first: usize,
    last: Option<usize>,
}

/// Collects the changes that a batch of records makes to devices and commands.
#[derive(Debug)]
pub(crate) struct DeviceUpdates {
    limits: Limits,
    changes: Changes,
    /// The position of each device among the changed ones.
    positions: HashMap<String, usize>,
    /// The position of each device's last report, if that is a plain `Heard`.
    last_heard: HashMap<String, usize>,
    last_clock: HashMap<String, ClockReports>,
    /// The reports of all devices, in order.
    pub reports: Vec<(String, DeviceReport)>,
    /// The replays, in log order.
    pub replayed: Vec<Replayed>,
}

impl DeviceUpdates {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            changes: Changes::default(),
            positions: HashMap::new(),
            last_heard: HashMap::new(),
            last_clock: HashMap::new(),
            reports: Vec::new(),
            replayed: Vec::new(),
        }
    }

    /// The update of a device, begun if there is none yet.
    fn device(&mut self, device_id: &str, at: DateTime<Utc>) -> Option<&mut DeviceUpdate> {
        let devices = &mut self.changes.devices;
        let position = *self.positions.entry(device_id.to_owned()).or_insert_with(|| {
            devices.push(DeviceUpdate::new(device_id, at));
            devices.len() - 1
        });
        let update = devices.get_mut(position)?;
        update.at = update.at.max(at);
        Some(update)
    }

    /// A device exists; nothing else is known of it yet.
    pub fn seen(&mut self, device_id: &str, at: Micros) {
        self.device(device_id, api_time(at));
    }

    /// A device has a reading of this time. Ignored for devices without an update, so that readings
    /// alone are written to control only now and then.
    pub fn measured(&mut self, device_id: &str, ts: Micros) {
        let position = self.positions.get(device_id).copied();
        if let Some(update) = position.and_then(|at| self.changes.devices.get_mut(at)) {
            update.telemetry = update.telemetry.max(time::to_datetime(ts));
        }
    }

    /// A payload that is not telemetry.
    pub fn payload(&mut self, device_id: &str, record: &Record, payload: Payload) {
        let (at, retained) = (api_time(record.headers.received_at), record.headers.retained);
        // A message that the broker had retained, or that is replayed, is no evidence of the
        // present.
        // Of a retained message it is not known when it was sent.
        let is_live = !retained && record.headers.replay_of.is_none();
        let received = record.headers.received_at;
        match payload {
            Payload::Response(response) => {
                let device_id = device_id.to_owned();
                self.changes.answers.push(Answer { device_id, at, response });
            }
            Payload::Alert(mut alert) => {
                alert.ts = EventTime(self.not_ahead(alert.ts.0, received));
                self.changes.device_alerts.push((device_id.to_owned(), alert, at));
            }
            Payload::Heartbeat(heartbeat) => {
                if let Some(update) = self.device(device_id, at) {
                    update.heard |= is_live;
                }
                self.heartbeat(device_id, heartbeat, received, is_live);
            }
            Payload::Status(status) => self.status(device_id, record, &status, is_live),
            Payload::Registration(registration) => {
                count_odd(&registration.extra);
                let Some(update) = self.device(device_id, at) else { return };
                update.registrations.push(registration);
                if is_live {
                    (update.heard, update.back, update.gone) = (true, true, false);
                    self.signal(device_id, Signal::Announced { at: received });
                }
            }
        }
    }

    fn status(&mut self, device_id: &str, record: &Record, status: &Status, is_live: bool) {
        let received = record.headers.received_at;
        let Some(update) = self.device(device_id, api_time(received)) else { return };
        if !is_live {
            // Ingest marks the last will of a connection as retained if the device has a newer
            // connection: then it is no sign that the device is gone.
            let is_will = status.status == Connection::Offline
                && status.reason.as_deref() == Some("lwt")
                && record.headers.replay_of.is_none();
            if is_will {
                let taken_over = DeviceReport::TakenOver { at: received };
                self.reports.push((device_id.to_owned(), taken_over));
            }
            return;
        }
        match status.status {
            Connection::Online => {
                (update.heard, update.back, update.gone) = (true, true, false);
                self.signal(device_id, Signal::Online { at: received });
            }
            Connection::Offline => {
                (update.heard, update.back, update.gone) = (false, false, true);
                self.signal(device_id, Signal::Offline { at: received });
            }
        }
    }

    fn signal(&mut self, device_id: &str, signal: Signal) {
        // A `Heard` after this signal is a report of its own: replacing the one before would move
        // it ahead of the signal.
        self.last_heard.remove(device_id);
        self.reports.push((device_id.to_owned(), DeviceReport::Signal(signal)));
    }

    /// A device was heard. Of several such reports in a row only the last is kept.
    pub fn heard(&mut self, device_id: &str, at: Micros) {
        let heard = DeviceReport::Signal(Signal::Heard { at });
        let last = self.last_heard.get(device_id).and_then(|at| self.reports.get_mut(*at));
        match last {
            Some((_, report)) => *report = heard,
            None => {
                self.last_heard.insert(device_id.to_owned(), self.reports.len());
                self.reports.push((device_id.to_owned(), heard));
            }
        }
    }

    /// A message with the device's time `ts` arrived at `at`. Of equal reports in a row only the
    /// first and the last are kept: the time between those two is how long it has been so.
    pub fn clock(&mut self, device_id: &str, ts: Micros, at: Micros) {
        let ahead = self.limits.is_ahead(ts, at).then_some(ts - at);
        let clock = DeviceReport::Clock { at, ahead };
        let position = self.reports.len();
        let known = self.last_clock.get(device_id).copied();
        let same = known.filter(|known| self.is_ahead(known.first) == Some(ahead.is_some()));
        let last = same.and_then(|same| same.last).and_then(|last| self.reports.get_mut(last));
        if let Some((_, report)) = last {
            *report = clock;
            return;
        }
        let reports = match same {
            Some(same) => ClockReports { last: Some(position), ..same },
            None => ClockReports { first: position, last: None },
        };
        self.last_clock.insert(device_id.to_owned(), reports);
        self.reports.push((device_id.to_owned(), clock));
    }

    /// Whether the report at a position says that a clock is ahead; `None` if it is not about a
    /// clock.
    fn is_ahead(&self, position: usize) -> Option<bool> {
        match self.reports.get(position) {
            Some((_, DeviceReport::Clock { ahead, .. })) => Some(ahead.is_some()),
            _ => None,
        }
    }

    /// A device's time, or the time of arrival if its clock is ahead: a time in the future would
    /// count as the newest until it has come.
    fn not_ahead(&self, ts: Micros, received: Micros) -> Micros {
        if self.limits.is_ahead(ts, received) { received } else { ts }
    }

    fn heartbeat(
        &mut self,
        device_id: &str,
        heartbeat: Heartbeat,
        received: Micros,
        is_live: bool,
    ) {
        let ts = heartbeat.ts.map_or(received, |ts| ts.0);
        if is_live {
            self.clock(device_id, ts, received);
        }
        let ts = self.not_ahead(ts, received);
        count_odd(&heartbeat.extra);
        if is_live {
            let interval_s = heartbeat.heartbeat_interval_s;
            self.signal(device_id, Signal::Heartbeat { at: received, interval_s });
        }
        let (boot, uptime_ms, vitals) =
            (heartbeat.boot, heartbeat.uptime_ms, Vitals::of(&heartbeat));
        let report = DeviceReport::Vitals { ts, boot, uptime_ms, vitals };
        self.reports.push((device_id.to_owned(), report));
        let at = time::to_datetime(ts).unwrap_or_else(|| api_time(received));
        if let Some(update) = self.device(device_id, api_time(received))
            // Heartbeats from a buffer arrive after newer ones.
            && update.heartbeat.as_ref().is_none_or(|(newest, _)| *newest < at)
        {
            update.heartbeat = Some((at, Box::new(heartbeat)));
        }
    }

    /// Remembers the boot of a dead letter whose device had no clock: once the boot has one, the
    /// letter can be replayed.
    pub fn dead_letter(&mut self, device_id: &str, letter: &DeadLetter, received: Micros) {
        if letter.reason != Reason::ClockUnset {
            return;
        }
        let fields = payload::fields(&letter.payload).unwrap_or_default();
        if let Some(boot) = fields.get("boot").and_then(payload::whole) {
            let clockless = &mut self.changes.dead_letters.clockless;
            let known = clockless.iter_mut().find(|(id, b, _)| id == device_id && *b == boot);
            match known {
                Some((.., newest)) => *newest = api_time(received),
                None => clockless.push((device_id.to_owned(), boot, api_time(received))),
            }
        }
    }

    /// A report of ingest about a command. One that does not parse was not written by ingest, and
    /// is only counted.
    pub fn delivery(&mut self, device_id: &str, record: &Record) {
        let Ok(delivery) = serde_json::from_slice::<Delivery>(&record.value) else {
            metrics::counter!("acuvim_foreign_reports_total").increment(1);
            return;
        };
        let at = api_time(record.headers.received_at);
        self.changes.deliveries.push((device_id.to_owned(), delivery, at));
    }

    /// Takes the changes that were collected.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }
}

/// Counts fields of the wrong type, which are kept aside instead of failing the message.
fn count_odd(extra: &serde_json::Map<String, serde_json::Value>) {
    let odd = extra.get(payload::ODD).and_then(serde_json::Value::as_object);
    metrics::counter!("acuvim_odd_fields_total").increment(odd.map_or(0, |odd| odd.len() as u64));
}

/// Whether a record of this kind shows by itself that its device exists.
pub(crate) const fn names_device(kind: Kind) -> bool {
    kind.of_device().is_some()
}

#[cfg(test)]
mod tests;
