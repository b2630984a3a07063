//! What records say that control is to note, brought together by device. Pure.

use std::collections::HashMap;

use acuvim_control::{Answer, Changes, DeviceNote};
use acuvim_schemas::{
    Kind, Micros, Record,
    api::DeviceStatus,
    command::Delivery,
    payload::{Connection, Payload},
    time,
};
use chrono::{DateTime, Utc};

/// Gathers the notes of a run of records.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    changes: Changes,
    places: HashMap<String, usize>,
}

impl Notes {
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
        let Some(note) = self.of(device_id, at) else { return };
        match payload {
            Payload::Heartbeat(heartbeat) => {
                let ts = heartbeat.ts.and_then(|ts| time::to_datetime(ts.0)).unwrap_or(at);
                if note.heartbeat.as_ref().is_none_or(|(newest, _)| *newest < ts) {
                    note.heartbeat = Some((ts, Box::new(heartbeat)));
                }
                if !retained {
                    note.status = Some((DeviceStatus::Online, at));
                    note.heard = true;
                }
            }
            // What a broker kept is not a sign of life.
            Payload::Status(_) if retained => {}
            Payload::Status(status) => match status.status {
                Connection::Online => {
                    note.status = Some((DeviceStatus::Online, at));
                    (note.heard, note.back) = (true, true);
                }
                Connection::Offline => {
                    note.status = Some((DeviceStatus::Offline, at));
                    (note.heard, note.back) = (false, false);
                }
            },
            Payload::Registration(registration) => {
                note.registrations.push(registration);
                if !retained {
                    note.status = Some((DeviceStatus::Online, at));
                    (note.heard, note.back) = (true, true);
                }
            }
            Payload::Alert(_) | Payload::Response(_) => {}
        }
    }

    /// Notes what `ingest` reports about a command; false if nobody of ours wrote it.
    pub fn delivery(&mut self, device_id: &str, record: &Record) -> bool {
        let Ok(delivery) = serde_json::from_slice::<Delivery>(&record.value) else { return false };
        let at = moment(record.headers.received_at);
        self.changes.deliveries.push((device_id.to_owned(), delivery, at));
        true
    }

    /// Everything that was noted.
    pub fn finish(self) -> Changes {
        self.changes
    }
}

/// Whether a record of this kind tells by itself that its device is there.
pub(crate) const fn names_device(kind: Kind) -> bool {
    !matches!(kind, Kind::Reject | Kind::Sent)
}

fn moment(at: Micros) -> DateTime<Utc> {
    time::to_datetime(at).unwrap_or_default()
}
