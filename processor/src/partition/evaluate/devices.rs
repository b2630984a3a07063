//! The presence and the health of a partition's devices.

use std::{collections::HashMap, sync::Arc};

use acuvim_control::{DevicePresence, DeviceUpdate, NewDeviceEvent, StatusStep};
use acuvim_lakehouse::Reading;
use acuvim_model::DeviceStatus;
use acuvim_rules::{
    Anomaly, Condition, Health, HealthPolicy, Listening, Signal, StatusChange, VitalLimits,
    VitalState,
};
use acuvim_tables::telemetry::Unknown;
use acuvim_wire::{
    Micros,
    time::{self, SECOND},
};
use arrow::{
    array::{AsArray as _, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use serde_json::json;

use super::{alerts::anomaly_change, counters::SuspectReading, evaluation::BatchEvaluation};
use crate::{api_time::api_time, partition::decode::DeviceReport};

/// How often it is written to control that a device is still heard, if nothing else changes.
const HEARD_INTERVAL: Micros = 30 * SECOND;

/// How often a suspect counter of a device is written to control: a register may fail for weeks.
const SUSPECT_INTERVAL: Micros = 3600 * SECOND;

/// The presence and the health of a partition's devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    devices: HashMap<Arc<str>, Device>,
}

#[derive(Debug, Default)]
struct Device {
    health: Health,
    vitals: VitalState,
    /// The last boot whose beginning was written to control since this process started.
    anchored: Option<u64>,
    /// When it was last written to control that the device is heard.
    heard_written: Option<Micros>,
    /// When a suspect counter was last written to control.
    suspect_written: Option<Micros>,
}

/// The boot and the sequence number that came with a reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberedReading<'a> {
    pub device_id: &'a str,
    pub ts: Micros,
    pub received_at: Micros,
    /// How often the device had started.
    pub boot: Option<u64>,
    /// The reading's number since then.
    pub seq: Option<u64>,
}

impl<'a> NumberedReading<'a> {
    /// The rows of `telemetry` from an offset on that have a boot or a sequence number.
    pub fn of(rows: &'a RecordBatch, from: i64) -> Vec<Self> {
        let ids = rows.column_by_name("device_id").and_then(|ids| ids.as_string_opt::<i32>());
        let (Some(ids), Some(times), Some(received)) =
            (ids, times(rows, "ts"), times(rows, "received_at"))
        else {
            return Vec::new();
        };
        let (Some(offsets), Some(boots), Some(numbers)) =
            (whole(rows, "offset"), whole(rows, "boot"), whole(rows, "seq"))
        else {
            return Vec::new();
        };
        let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        let when = times.iter().zip(received.iter());
        let counts = boots.iter().zip(numbers.iter());
        let rows = ids.iter().zip(offsets.iter()).zip(when.zip(counts));
        let numbered = rows.filter_map(|((id, offset), ((ts, received_at), (boot, seq)))| {
            let (device_id, boot, seq) = (id?, count(boot), count(seq));
            let has_number = offset? >= from && (boot.is_some() || seq.is_some());
            has_number.then_some(Self { device_id, ts: ts?, received_at: received_at?, boot, seq })
        });
        numbered.collect()
    }
}

fn times<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a TimestampMicrosecondArray> {
    rows.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()
}

fn whole<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a Int64Array> {
    rows.column_by_name(name)?.as_primitive_opt::<Int64Type>()
}

impl Devices {
    /// Loads what is stored of a partition's devices.
    pub fn load(presences: Vec<DevicePresence>, ours: impl Fn(&str) -> bool) -> Self {
        let device = |presence: DevicePresence| {
            let vitals = presence.vitals.as_deref().and_then(|v| serde_json::from_str(v).ok());
            let health = Health {
                status: DeviceStatus::parse(&presence.status).unwrap_or(DeviceStatus::Offline),
                connected: presence.connected,
                heard_at: presence.heard_at.map(|at| at.timestamp_micros()),
                interval_s: presence.heartbeat_interval_s,
                spacing: None,
            };
            let vitals = vitals.unwrap_or_default();
            let device = Device { health, vitals, ..Device::default() };
            (Arc::from(presence.device_id), device)
        };
        let devices = presences.into_iter().filter(|p| ours(&p.device_id)).map(device);
        Self { devices: devices.collect() }
    }

    fn device(&mut self, device_id: &str) -> &mut Device {
        if !self.devices.contains_key(device_id) {
            self.devices.insert(device_id.into(), Device::default());
        }
        // The entry exists by now, so this inserts nothing.
        self.devices.entry(device_id.into()).or_default()
    }

    /// Evaluates what devices report about themselves, in order.
    pub fn reports(
        &mut self,
        reports: Vec<(String, DeviceReport)>,
        limits: &VitalLimits,
        found: &mut BatchEvaluation,
    ) {
        for (device_id, report) in reports {
            let device = self.device(&device_id);
            match report {
                DeviceReport::Signal(signal) => device.signal(&device_id, signal, found),
                DeviceReport::TakenOver { at } => device.taken_over(&device_id, at, found),
                DeviceReport::Clock { at, ahead } => {
                    device.clock(&device_id, at, ahead, limits, found);
                }
                DeviceReport::Vitals { ts, boot, uptime_ms, vitals } => {
                    found.anchors.extend(anchor(&device_id, device, ts, boot, uptime_ms));
                    let duplicate_id = device.vitals.beat_of(ts, boot, uptime_ms);
                    let duplicate_id = duplicate_id.map(|c| anomaly_change(&device_id, &c));
                    found.alerts.extend(duplicate_id);
                    let conditions = device.vitals.heartbeat(ts, boot, &vitals, limits);
                    let changes = conditions.iter().map(|c| anomaly_change(&device_id, c));
                    found.alerts.extend(changes);
                    found.devices.push(vitals_note(&device_id, device, ts));
                }
            }
        }
    }

    /// Evaluates the boots and sequence numbers of readings, in the order of the log.
    pub fn numbered_readings(
        &mut self,
        readings: &[NumberedReading<'_>],
        found: &mut BatchEvaluation,
    ) {
        for reading in readings {
            let NumberedReading { device_id, ts, received_at, boot, seq } = *reading;
            // Any message of a device creates its entry, so a reading without one was replayed or
            // imported.
            let Some(device) = self.devices.get_mut(device_id) else { continue };
            // A time in the future would hide all readings until then.
            let ts = ts.min(received_at);
            let condition = device.vitals.reading_of(ts, received_at, boot, seq);
            device.condition(device_id, received_at, condition.as_ref(), found);
        }
    }

    /// Evaluates readings without a key that we know, and the devices whose readings have one.
    pub fn reading_keys(
        &mut self,
        unknown: &[Unknown],
        known: HashMap<Arc<str>, Micros>,
        found: &mut BatchEvaluation,
    ) {
        for reading in unknown {
            let device = self.device(&reading.device_id);
            let condition = device.vitals.readings_known(reading.ts, Some(&reading.keys));
            device.condition(&reading.device_id, reading.ts, condition.as_ref(), found);
        }
        for (device_id, ts) in known {
            let Some(device) = self.devices.get_mut(&device_id) else { continue };
            if device.vitals.is_open(Anomaly::NoKnownReadings) {
                let condition = device.vitals.readings_known(ts, None);
                device.condition(&device_id, ts, condition.as_ref(), found);
            }
        }
    }

    /// Evaluates suspect readings of counters. `sent` has the newest reading of each device in the
    /// batch: a device with an alert and without a suspect reading for a while is well again.
    pub fn suspect_counters(
        &mut self,
        suspects: &[SuspectReading],
        sent: &HashMap<Arc<str>, Micros>,
        found: &mut BatchEvaluation,
    ) {
        for suspect in suspects {
            let Reading { ts, value } = suspect.reading;
            let at = sent.get(&suspect.device).copied().unwrap_or(ts);
            let device = self.device(&suspect.device);
            let condition = device.vitals.suspect_counter(ts, suspect.counter, value);
            // By the time of the newest reading: suspect ones are known later, and their own times
            // may lie far apart.
            let recent = device.suspect_written.is_some_and(|last| at - last < SUSPECT_INTERVAL);
            if recent && condition.is_none() {
                continue;
            }
            device.suspect_written = Some(at);
            let condition = condition.map(|c| anomaly_change(&suspect.device, &c));
            found.alerts.extend(condition);
            let mut note = vitals_note(&suspect.device, device, at);
            note.happened.push(NewDeviceEvent {
                kind: acuvim_control::DeviceEventKind::CounterSuspect,
                reason: "implausible",
                at: api_time(at),
                detail: json!({
                    "counter": suspect.counter,
                    "value": value,
                    "ts": time::to_rfc3339(ts),
                    "readings": suspect.times,
                }),
            });
            found.devices.push(note);
        }
        for (device_id, at) in sent {
            let Some(device) = self.devices.get_mut(device_id) else { continue };
            if device.vitals.is_open(Anomaly::ImplausibleCounter) {
                let condition = device.vitals.counters_are_calm(*at);
                device.condition(device_id, *at, condition.as_ref(), found);
            }
        }
    }

    /// Evaluates the silence of all devices.
    pub fn silence(&mut self, beat: Listening, policy: &HealthPolicy, found: &mut BatchEvaluation) {
        for (device_id, device) in &mut self.devices {
            let changes = device.health.silence(beat, policy);
            if changes.is_empty() {
                continue;
            }
            let mut note = DeviceUpdate::new(device_id, api_time(beat.until));
            note.status = changes.into_iter().map(step).collect();
            // A device that was deleted meanwhile must not come back by falling silent.
            note.of_known = true;
            found.devices.push(note);
        }
    }

    pub fn len(&self) -> usize {
        self.devices.len()
    }
}

impl Device {
    /// A condition that began or ended, if one did.
    fn condition(
        &self,
        device_id: &str,
        at: Micros,
        condition: Option<&Condition>,
        found: &mut BatchEvaluation,
    ) {
        if let Some(condition) = condition {
            found.alerts.push(anomaly_change(device_id, condition));
            found.devices.push(vitals_note(device_id, self, at));
        }
    }

    fn signal(&mut self, device_id: &str, signal: Signal, found: &mut BatchEvaluation) {
        let changed = self.health.signal(signal);
        let at = signal.at();
        let recent = self.heard_written.is_some_and(|last| at - last < HEARD_INTERVAL);
        if matches!(signal, Signal::Heard { .. }) && changed.is_none() && recent {
            return;
        }
        // Other signals are written at once, and tell that the device is heard as well.
        self.heard_written = Some(at);
        let mut note = DeviceUpdate::new(device_id, api_time(at));
        note.status.extend(changed.map(step));
        note.presence = Some((self.health.connected, self.health.heard_at.map(api_time)));
        found.devices.push(note);
    }

    fn taken_over(&mut self, device_id: &str, at: Micros, found: &mut BatchEvaluation) {
        // If the device is gone, this is merely its last will, retained by a broker.
        if self.health.connected == Some(true) {
            let condition = self.vitals.taken_over(at);
            self.condition(device_id, at, condition.as_ref(), found);
        }
    }

    fn clock(
        &mut self,
        device_id: &str,
        at: Micros,
        ahead: Option<Micros>,
        limits: &VitalLimits,
        found: &mut BatchEvaluation,
    ) {
        let news = self.vitals.clock(at, ahead, limits);
        let condition = news.condition.as_ref();
        found.alerts.extend(condition.map(|c| anomaly_change(device_id, c)));
        if news.changed.is_none() && condition.is_none() {
            return;
        }
        let mut note = vitals_note(device_id, self, at);
        note.happened.extend(news.changed.map(|ahead| clock_event(at, ahead)));
        found.devices.push(note);
    }
}

fn step(change: StatusChange) -> StatusStep {
    StatusStep { from: change.from, to: change.to, at: api_time(change.at), reason: change.reason }
}

/// The event that a clock is ahead from now on, or is not any more.
fn clock_event(at: Micros, ahead: Option<Micros>) -> NewDeviceEvent {
    let (reason, detail) = match ahead {
        Some(by) => ("ahead", json!({ "ahead_seconds": by as f64 / 1e6 })),
        None => ("in_step", json!({})),
    };
    NewDeviceEvent {
        kind: acuvim_control::DeviceEventKind::Clock,
        reason,
        at: api_time(at),
        detail,
    }
}

/// When a boot began, by its first heartbeat with a time.
fn anchor(
    device_id: &str,
    device: &mut Device,
    ts: Micros,
    boot: Option<u64>,
    uptime_ms: Option<u64>,
) -> Option<(String, i64, Micros)> {
    let (boot, uptime) = (boot?, i64::try_from(uptime_ms?).ok()?.checked_mul(1000)?);
    let known = device.anchored.replace(boot) == Some(boot);
    (!known).then(|| (device_id.to_owned(), i64::try_from(boot).unwrap_or(i64::MAX), ts - uptime))
}

fn vitals_note(device_id: &str, device: &Device, ts: Micros) -> DeviceUpdate {
    let mut note = DeviceUpdate::new(device_id, api_time(ts));
    note.vitals = serde_json::to_string(&device.vitals).ok();
    note
}

#[cfg(test)]
mod tests;
