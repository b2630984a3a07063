//! What a partition's devices were last: present or not, and well or not.

use std::{collections::HashMap, sync::Arc};

use acuvim_control::{AlertChange, DeviceHappening, DeviceNote, DevicePresence, StatusStep};
use acuvim_lakehouse::Reading;
use acuvim_rules::{
    Anomaly, Beat, Condition, Health, HealthPolicy, Signal, StatusChange, VitalLimits, VitalState,
};
use acuvim_schemas::{
    Micros,
    api::DeviceStatus,
    telemetry::Unknown,
    time::{self, SECOND},
};
use arrow::{
    array::{AsArray as _, Int64Array, RecordBatch, TimestampMicrosecondArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use serde_json::json;

use super::{Suspect, anomaly_change};
use crate::notes::{Said, moment};

/// How often control is told that a device is still heard, where nothing else changes.
const TELL_OF_WORDS: Micros = 30 * SECOND;

/// How often it is told of a device that its counters are suspect: a register may fail for weeks.
const TELL_OF_SUSPECTS: Micros = 3600 * SECOND;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    devices: HashMap<Arc<str>, Member>,
}

#[derive(Debug, Default)]
struct Member {
    health: Health,
    vitals: VitalState,
    /// The boot whose beginning was told since this process began.
    anchored: Option<u64>,
    /// When control was last told that it is heard.
    told_at: Option<Micros>,
    /// When it was last told that a counter was suspect.
    suspect_told: Option<Micros>,
}

/// What was learnt of a device, for control.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    /// Notes on devices.
    pub notes: Vec<DeviceNote>,
    /// Alerts that begin or end.
    pub alerts: Vec<AlertChange>,
    /// Boots that have a clock now.
    pub anchors: Vec<(String, i64, Micros)>,
}

impl Learnt {
    /// Notes that something began or ended about a device, if it did.
    fn changed(
        &mut self,
        device_id: &str,
        member: &Member,
        at: Micros,
        condition: Option<&Condition>,
    ) {
        if let Some(condition) = condition {
            self.alerts.push(anomaly_change(device_id, condition));
            self.notes.push(vitals_note(device_id, member, at));
        }
    }
}

/// What a reading says of the device that sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted<'a> {
    /// Its id.
    pub device_id: &'a str,
    /// The reading's time, and when it arrived.
    pub ts: Micros,
    /// See `ts`.
    pub received_at: Micros,
    /// How often the device had started.
    pub boot: Option<u64>,
    /// The reading's number in that boot.
    pub seq: Option<u64>,
}

impl<'a> Counted<'a> {
    /// The readings of rows of `telemetry` from an offset on that say something of it.
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
        let says = rows.filter_map(|((id, offset), ((ts, received_at), (boot, seq)))| {
            let (device_id, boot, seq) = (id?, count(boot), count(seq));
            let counts = offset? >= from && (boot.is_some() || seq.is_some());
            counts.then_some(Self { device_id, ts: ts?, received_at: received_at?, boot, seq })
        });
        says.collect()
    }
}

fn times<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a TimestampMicrosecondArray> {
    rows.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()
}

fn whole<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a Int64Array> {
    rows.column_by_name(name)?.as_primitive_opt::<Int64Type>()
}

impl Fleet {
    /// Takes up what is stored of a partition's devices.
    pub fn load(presences: Vec<DevicePresence>, ours: impl Fn(&str) -> bool) -> Self {
        let member = |presence: DevicePresence| {
            let vitals = presence.vitals.as_deref().and_then(|v| serde_json::from_str(v).ok());
            let health = Health {
                status: DeviceStatus::parse(&presence.status).unwrap_or(DeviceStatus::Offline),
                connected: presence.connected,
                heard_at: presence.heard_at.map(|at| at.timestamp_micros()),
                interval_s: presence.heartbeat_interval_s,
                spacing: None,
            };
            let vitals = vitals.unwrap_or_default();
            let member = Member { health, vitals, ..Member::default() };
            (Arc::from(presence.device_id), member)
        };
        let devices = presences.into_iter().filter(|p| ours(&p.device_id)).map(member);
        Self { devices: devices.collect() }
    }

    fn member(&mut self, device_id: &str) -> &mut Member {
        if !self.devices.contains_key(device_id) {
            self.devices.insert(device_id.into(), Member::default());
        }
        // It is there: the line above sees to it.
        self.devices.entry(device_id.into()).or_default()
    }

    /// Takes what devices said, in order.
    pub fn hear(&mut self, said: Vec<(String, Said)>, limits: &VitalLimits, learnt: &mut Learnt) {
        for (device_id, said) in said {
            let member = self.member(&device_id);
            match said {
                Said::Signal(signal) => {
                    let changed = member.health.signal(signal);
                    let at = signal.at();
                    let told = member.told_at.is_some_and(|told| at - told < TELL_OF_WORDS);
                    if matches!(signal, Signal::Heard { .. }) && changed.is_none() && told {
                        continue;
                    }
                    member.told_at = Some(at);
                    let mut note = DeviceNote::new(&device_id, moment(signal.at()));
                    note.status.extend(changed.map(step));
                    let heard = member.health.heard_at.map(moment);
                    note.presence = Some((member.health.connected, heard));
                    learnt.notes.push(note);
                }
                // Of a device that is gone it is the word that a broker kept.
                Said::TakenOver { at } if member.health.connected == Some(true) => {
                    let condition = member.vitals.taken_over(at);
                    learnt.changed(&device_id, member, at, condition.as_ref());
                }
                Said::TakenOver { .. } => {}
                Said::Clock { at, ahead } => {
                    let news = member.vitals.clock(at, ahead, limits);
                    let condition = news.condition.as_ref();
                    learnt.alerts.extend(condition.map(|c| anomaly_change(&device_id, c)));
                    if news.changed.is_none() && condition.is_none() {
                        continue;
                    }
                    let mut note = vitals_note(&device_id, member, at);
                    note.happened.extend(news.changed.map(|ahead| of_clock(at, ahead)));
                    learnt.notes.push(note);
                }
                Said::Vitals { ts, boot, uptime_ms, vitals } => {
                    learnt.anchors.extend(anchor(&device_id, member, ts, boot, uptime_ms));
                    let twins = member.vitals.beat_of(ts, boot, uptime_ms);
                    learnt.alerts.extend(twins.map(|c| anomaly_change(&device_id, &c)));
                    let conditions = member.vitals.heartbeat(ts, boot, &vitals, limits);
                    let changes = conditions.iter().map(|c| anomaly_change(&device_id, c));
                    learnt.alerts.extend(changes);
                    learnt.notes.push(vitals_note(&device_id, member, ts));
                }
            }
        }
    }

    /// Takes what readings say of the device that sent them, in the order of the log.
    pub fn counted(&mut self, counted: &[Counted<'_>], learnt: &mut Learnt) {
        for one in counted {
            // Of one that says nothing but readings its first words made it known.
            let Some(member) = self.devices.get_mut(one.device_id) else { continue };
            // A clock that is ahead must not hide what comes behind it.
            let ts = one.ts.min(one.received_at);
            let condition = member.vitals.reading_of(ts, one.received_at, one.boot, one.seq);
            learnt.changed(one.device_id, member, one.received_at, condition.as_ref());
        }
    }

    /// Takes readings without a key we know, and those with one.
    pub fn readings(
        &mut self,
        unknown: &[Unknown],
        known: HashMap<Arc<str>, Micros>,
        learnt: &mut Learnt,
    ) {
        for reading in unknown {
            let member = self.member(&reading.device_id);
            if let Some(condition) = member.vitals.readings_known(reading.ts, Some(&reading.keys)) {
                learnt.alerts.push(anomaly_change(&reading.device_id, &condition));
                learnt.notes.push(vitals_note(&reading.device_id, member, reading.ts));
            }
        }
        for (device_id, ts) in known {
            let Some(member) = self.devices.get_mut(&device_id) else { continue };
            if !member.vitals.is_open(Anomaly::NoKnownReadings) {
                continue;
            }
            if let Some(condition) = member.vitals.readings_known(ts, None) {
                learnt.alerts.push(anomaly_change(&device_id, &condition));
                learnt.notes.push(vitals_note(&device_id, member, ts));
            }
        }
    }

    /// Takes suspect readings of counters, and when the devices that have sent readings sent them.
    pub fn counters(
        &mut self,
        suspects: &[Suspect],
        sent: &HashMap<Arc<str>, Micros>,
        learnt: &mut Learnt,
    ) {
        for suspect in suspects {
            let Reading { ts, value } = suspect.reading;
            let at = sent.get(&suspect.device).copied().unwrap_or(ts);
            let member = self.member(&suspect.device);
            let condition = member.vitals.suspect_counter(ts, suspect.counter, value);
            let told = member.suspect_told.is_some_and(|told| at - told < TELL_OF_SUSPECTS);
            if told && condition.is_none() {
                continue;
            }
            member.suspect_told = Some(at);
            let condition = condition.map(|c| anomaly_change(&suspect.device, &c));
            learnt.alerts.extend(condition);
            let mut note = vitals_note(&suspect.device, member, at);
            note.happened.push(DeviceHappening {
                event: "counter_suspect",
                reason: "implausible",
                at: moment(at),
                detail: json!({
                    "counter": suspect.counter,
                    "value": value,
                    "ts": time::to_rfc3339(ts),
                    "readings": suspect.times,
                }),
            });
            learnt.notes.push(note);
        }
        for (device_id, at) in sent {
            let Some(member) = self.devices.get_mut(device_id) else { continue };
            if !member.vitals.is_open(Anomaly::ImplausibleCounter) {
                continue;
            }
            if let Some(condition) = member.vitals.counters_are_calm(*at) {
                learnt.alerts.push(anomaly_change(device_id, &condition));
                learnt.notes.push(vitals_note(device_id, member, *at));
            }
        }
    }

    /// Judges everybody's silence.
    pub fn silence(&mut self, beat: Beat, policy: &HealthPolicy, learnt: &mut Learnt) {
        for (device_id, member) in &mut self.devices {
            let changes = member.health.silence(beat, policy);
            if changes.is_empty() {
                continue;
            }
            let mut note = DeviceNote::new(device_id, moment(beat.until));
            note.status = changes.into_iter().map(step).collect();
            note.of_known = true;
            learnt.notes.push(note);
        }
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.devices.len()
    }
}

fn step(change: StatusChange) -> StatusStep {
    StatusStep { from: change.from, to: change.to, at: moment(change.at), reason: change.reason }
}

/// That a clock is ahead from now on, or is not any more.
fn of_clock(at: Micros, ahead: Option<Micros>) -> DeviceHappening {
    let (reason, detail) = match ahead {
        Some(by) => ("ahead", json!({ "ahead_seconds": by as f64 / 1e6 })),
        None => ("in_step", json!({})),
    };
    DeviceHappening { event: "clock", reason, at: moment(at), detail }
}

/// When a boot began, told by the first heartbeat of it that knows the time.
fn anchor(
    device_id: &str,
    member: &mut Member,
    ts: Micros,
    boot: Option<u64>,
    uptime_ms: Option<u64>,
) -> Option<(String, i64, Micros)> {
    let (boot, uptime) = (boot?, i64::try_from(uptime_ms?).ok()?.checked_mul(1000)?);
    let known = member.anchored.replace(boot) == Some(boot);
    (!known).then(|| (device_id.to_owned(), i64::try_from(boot).unwrap_or(i64::MAX), ts - uptime))
}

fn vitals_note(device_id: &str, member: &Member, ts: Micros) -> DeviceNote {
    let mut note = DeviceNote::new(device_id, moment(ts));
    note.vitals = serde_json::to_string(&member.vitals).ok();
    note
}
