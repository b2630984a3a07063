//! What records say that control is to note, brought together by device. Pure.

use std::collections::HashMap;

use acuvim_control::{Answer, Changes, DeviceNote};
use acuvim_rules::Signal;
use acuvim_schemas::{
    DeadLetter, Identity, Kind, Micros, Reason, Record,
    command::Delivery,
    heartbeat::Vitals,
    payload::{self, Connection, EventTime, Heartbeat, Payload},
    telemetry::Limits,
    time,
};
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};

/// What a device said of itself that only the order of what it said gives a meaning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// A sign of life, or of its end.
    Signal(Signal),
    /// A heartbeat.
    Vitals {
        /// Its time, by the device.
        ts: Micros,
        /// The boot count.
        boot: Option<u64>,
        /// Milliseconds since the boot.
        uptime_ms: Option<u64>,
        /// What is in it.
        vitals: Vitals,
    },
    /// A newer connection of it took an older one over.
    TakenOver {
        /// When the older one's last will came.
        at: Micros,
    },
    /// What it sent says of its clock.
    Clock {
        /// When that arrived.
        at: Micros,
        /// By how much its time is ahead of that; none if it is not.
        ahead: Option<Micros>,
    },
}

/// A record that brings a dead letter again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The dead letter.
    pub letter: Identity,
    /// Where it is in the log now.
    pub offset: i64,
    /// Whether it decodes now: it is stored, or a duplicate; otherwise it is dead again.
    pub decoded: bool,
    /// Whether it becomes a row of its own.
    pub has_row: bool,
}

/// Where among what was said the first and the last word of a device's clock are, of those that say the
/// same.
#[derive(Debug, Clone, Copy)]
struct ClockPlaces {
    first: usize,
    last: Option<usize>,
}

/// Gathers the notes of a run of records.
#[derive(Debug)]
pub(crate) struct Notes {
    limits: Limits,
    changes: Changes,
    places: HashMap<String, usize>,
    /// Where each device's last word is in what was said, if it was no more than a word; and what was
    /// said last of its clock.
    last_heard: HashMap<String, usize>,
    last_clock: HashMap<String, ClockPlaces>,
    /// Whose, and what, in the order in which it was said.
    pub said: Vec<(String, Said)>,
    /// Replays, in log order.
    pub replayed: Vec<Replayed>,
}

impl Notes {
    /// Nothing yet, of devices whose clocks are judged by these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            changes: Changes::default(),
            places: HashMap::new(),
            last_heard: HashMap::new(),
            last_clock: HashMap::new(),
            said: Vec::new(),
            replayed: Vec::new(),
        }
    }

    /// The note on a device.
    fn of(&mut self, device_id: &str, at: DateTime<Utc>) -> Option<&mut DeviceNote> {
        let devices = &mut self.changes.devices;
        let place = *self.places.entry(device_id.to_owned()).or_insert_with(|| {
            devices.push(DeviceNote::new(device_id, at));
            devices.len() - 1
        });
        let note = devices.get_mut(place)?;
        note.at = note.at.max(at);
        Some(note)
    }

    /// Notes that a device is there, and nothing else yet.
    pub fn seen(&mut self, device_id: &str, at: Micros) {
        self.of(device_id, moment(at));
    }

    /// The time of a device's newest reading, if the device is noted at all.
    pub fn measured(&mut self, device_id: &str, ts: Micros) {
        let place = self.places.get(device_id).copied();
        if let Some(note) = place.and_then(|place| self.changes.devices.get_mut(place)) {
            note.telemetry = note.telemetry.max(time::to_datetime(ts));
        }
    }

    /// Notes a payload that is not telemetry.
    pub fn payload(&mut self, device_id: &str, record: &Record, payload: Payload) {
        let (at, retained) = (moment(record.headers.received_at), record.headers.retained);
        if let Payload::Response(response) = payload {
            let device_id = device_id.to_owned();
            self.changes.answers.push(Answer { device_id, at, response });
            return;
        }
        if let Payload::Alert(mut alert) = payload {
            alert.ts = EventTime(self.of_now(alert.ts.0, record.headers.received_at));
            self.changes.said.push((device_id.to_owned(), alert, at));
            return;
        }
        // What comes again long after it was said is a sign of nothing.
        let alive = !retained && record.headers.replay_of.is_none();
        let Some(note) = self.of(device_id, at) else { return };
        let received = record.headers.received_at;
        match payload {
            Payload::Heartbeat(heartbeat) => {
                note.heard |= alive;
                self.heartbeat(device_id, heartbeat, received, alive);
            }
            // What a broker kept is not a sign of life; nor is the will of a connection that has a
            // newer one beside it.
            Payload::Status(status) if !alive => {
                let is_will = status.status == Connection::Offline
                    && status.reason.as_deref() == Some("lwt")
                    && record.headers.replay_of.is_none();
                if is_will {
                    let taken_over = Said::TakenOver { at: received };
                    self.said.push((device_id.to_owned(), taken_over));
                }
            }
            Payload::Status(status) => match status.status {
                Connection::Online => {
                    (note.heard, note.back, note.gone) = (true, true, false);
                    self.signal(device_id, Signal::Online { at: received });
                }
                Connection::Offline => {
                    (note.heard, note.back, note.gone) = (false, false, true);
                    self.signal(device_id, Signal::Offline { at: received });
                }
            },
            Payload::Registration(registration) => {
                count_odd(&registration.extra);
                note.registrations.push(registration);
                if alive {
                    (note.heard, note.back, note.gone) = (true, true, false);
                    self.signal(device_id, Signal::Announced { at: received });
                }
            }
            Payload::Alert(_) | Payload::Response(_) => {}
        }
    }

    fn signal(&mut self, device_id: &str, signal: Signal) {
        self.last_heard.remove(device_id);
        self.said.push((device_id.to_owned(), Said::Signal(signal)));
    }

    /// Notes that a device has said something: once for many words one behind the other.
    pub fn heard(&mut self, device_id: &str, at: Micros) {
        let heard = Said::Signal(Signal::Heard { at });
        let last = self.last_heard.get(device_id).and_then(|place| self.said.get_mut(*place));
        match last {
            Some((_, said)) => *said = heard,
            None => {
                self.last_heard.insert(device_id.to_owned(), self.said.len());
                self.said.push((device_id.to_owned(), heard));
            }
        }
    }

    /// Notes what a time of a device says of its clock: of many that say the same the first and the last,
    /// which tell for how long it has been so.
    pub fn clock(&mut self, device_id: &str, ts: Micros, at: Micros) {
        let ahead = self.limits.is_ahead(ts, at).then_some(ts - at);
        let clock = Said::Clock { at, ahead };
        let place = self.said.len();
        let known = self.last_clock.get(device_id).copied();
        let same = known.filter(|known| self.said_ahead(known.first) == Some(ahead.is_some()));
        let last = same.and_then(|same| same.last).and_then(|last| self.said.get_mut(last));
        if let Some((_, said)) = last {
            *said = clock;
            return;
        }
        let places = match same {
            Some(same) => ClockPlaces { last: Some(place), ..same },
            None => ClockPlaces { first: place, last: None },
        };
        self.last_clock.insert(device_id.to_owned(), places);
        self.said.push((device_id.to_owned(), clock));
    }

    /// Whether what was said at a place is that a clock is ahead; none if it is not of clocks.
    fn said_ahead(&self, place: usize) -> Option<bool> {
        match self.said.get(place) {
            Some((_, Said::Clock { ahead, .. })) => Some(ahead.is_some()),
            _ => None,
        }
    }

    /// A device's time, or that of its arrival where its clock is ahead: what is of the future would
    /// stay the newest until then.
    fn of_now(&self, ts: Micros, received: Micros) -> Micros {
        if self.limits.is_ahead(ts, received) { received } else { ts }
    }

    fn heartbeat(&mut self, device_id: &str, heartbeat: Heartbeat, received: Micros, alive: bool) {
        let ts = heartbeat.ts.map_or(received, |ts| ts.0);
        if alive {
            self.clock(device_id, ts, received);
        }
        let ts = self.of_now(ts, received);
        count_odd(&heartbeat.extra);
        if alive {
            let interval_s = heartbeat.heartbeat_interval_s;
            self.signal(device_id, Signal::Heartbeat { at: received, interval_s });
        }
        let (boot, uptime_ms, vitals) =
            (heartbeat.boot, heartbeat.uptime_ms, Vitals::of(&heartbeat));
        self.said.push((device_id.to_owned(), Said::Vitals { ts, boot, uptime_ms, vitals }));
        let at = time::to_datetime(ts).unwrap_or_else(|| moment(received));
        if let Some(note) = self.of(device_id, moment(received))
            && note.heartbeat.as_ref().is_none_or(|(newest, _)| *newest < at)
        {
            note.heartbeat = Some((at, Box::new(heartbeat)));
        }
    }

    /// Notes a dead letter whose device had no clock yet.
    pub fn letter(&mut self, device_id: &str, letter: &DeadLetter, received: Micros) {
        if letter.reason != Reason::ClockUnset {
            return;
        }
        let fields = payload::fields(&letter.payload).unwrap_or_default();
        if let Some(boot) = fields.get("boot").and_then(payload::whole) {
            let clockless = &mut self.changes.letters.clockless;
            let known = clockless.iter_mut().find(|(id, b, _)| id == device_id && *b == boot);
            match known {
                Some((.., newest)) => *newest = moment(received),
                None => clockless.push((device_id.to_owned(), boot, moment(received))),
            }
        }
    }

    /// Notes what `ingest` reports about a command; what nobody of ours wrote is counted.
    pub fn delivery(&mut self, device_id: &str, record: &Record) {
        let Ok(delivery) = serde_json::from_slice::<Delivery>(&record.value) else {
            metrics::counter!("acuvim_foreign_reports_total").increment(1);
            return;
        };
        let at = moment(record.headers.received_at);
        self.changes.deliveries.push((device_id.to_owned(), delivery, at));
    }

    /// The changes that were noted.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }
}

/// Counts fields that were odd and are kept aside.
fn count_odd(extra: &serde_json::Map<String, serde_json::Value>) {
    let odd = extra.get(payload::ODD).and_then(serde_json::Value::as_object);
    metrics::counter!("acuvim_odd_fields_total").increment(odd.map_or(0, |odd| odd.len() as u64));
}

/// Whether a record of this kind tells by itself that its device is there.
pub(crate) const fn names_device(kind: Kind) -> bool {
    kind.of_device().is_some()
}

/// The moment, to the millisecond, as the API has it.
pub(crate) fn moment(at: Micros) -> DateTime<Utc> {
    let at = time::to_datetime(at).unwrap_or_default();
    at.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_words_of_a_clock_the_first_and_the_last_are_told() {
        let mut notes = Notes::new(Limits::default());
        let second = |n: i64| n * time::SECOND;
        for (at, ahead) in [(0, 120), (30, 120), (60, 121), (70, 0), (80, 0), (90, 0)] {
            notes.clock("d", second(at + ahead), second(at));
        }
        let said: Vec<(i64, bool)> = notes
            .said
            .iter()
            .filter_map(|(_, said)| match said {
                Said::Clock { at, ahead } => Some((at / time::SECOND, ahead.is_some())),
                _ => None,
            })
            .collect();
        assert_eq!(said, [(0, true), (60, true), (70, false), (90, false)]);
    }
}
