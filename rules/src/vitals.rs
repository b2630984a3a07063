//! Anomalies in what heartbeats say: resets, memory, Modbus, the SD card.

use acuvim_schemas::{Micros, heartbeat::Vitals, time::SECOND};
use serde::{Deserialize, Serialize};

use crate::twins::Twins;

/// The limits of what is normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VitalLimits {
    /// Free heap, in bytes, under which memory is low.
    pub min_free_heap: i64,
    /// The share of Modbus exchanges that may fail between two heartbeats.
    pub max_modbus_errors: f64,
    /// Boots within an hour that make a loop.
    pub boots_per_hour: u32,
    /// Free room on the SD card, in MB, under which it is nearly full.
    pub min_sd_free_mb: i64,
    /// For how long a clock must be ahead until that is an alert.
    pub clock_ahead_for: Micros,
}

/// So many suspect readings of counters within a day are an alert, until there was none for as long.
const SUSPECTS: usize = 3;
const SUSPECT_FOR: Micros = 24 * 3600 * SECOND;

impl Default for VitalLimits {
    fn default() -> Self {
        Self {
            min_free_heap: 20_000,
            max_modbus_errors: 0.2,
            boots_per_hour: 5,
            min_sd_free_mb: 100,
            clock_ahead_for: 60 * SECOND,
        }
    }
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anomaly {
    /// It restarted for want of power.
    Brownout,
    /// It restarted because it crashed.
    Crash,
    /// It restarts again and again.
    CrashLoop,
    /// Its memory is low.
    LowMemory,
    /// Its meter does not answer as it should.
    ModbusErrors,
    /// Its SD card is missing or nearly full.
    SdFailure,
    /// Its readings have no key that we know.
    NoKnownReadings,
    /// Its clock is ahead, and has been for a while.
    ClockAhead,
    /// Its counters show again and again what they can't have counted.
    ImplausibleCounter,
    /// Two devices seem to use its id.
    DuplicateId,
}

impl Anomaly {
    /// The type of its alerts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brownout => "brownout",
            Self::Crash => "crash",
            Self::CrashLoop => "crash_loop",
            Self::LowMemory => "low_memory",
            Self::ModbusErrors => "modbus_errors",
            Self::SdFailure => "sd_failure",
            Self::NoKnownReadings => "no_known_readings",
            Self::ClockAhead => "clock_ahead",
            Self::ImplausibleCounter => "implausible_counter",
            Self::DuplicateId => "duplicate_id",
        }
    }
}

/// Something that began or ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What.
    pub anomaly: Anomaly,
    /// When: the heartbeat's time.
    pub ts: Micros,
    /// When it began, which is when its alert was made.
    pub since: Micros,
    /// Whether it began.
    pub begins: bool,
    /// In words.
    pub message: String,
    /// The value that broke the limit.
    pub value: Option<f64>,
    /// The limit.
    pub threshold: Option<f64>,
}

/// What is kept of a device between heartbeats.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VitalState {
    /// The time of the newest heartbeat.
    #[serde(rename = "t")]
    pub ts: Option<Micros>,
    /// The boot count that it had.
    #[serde(rename = "b")]
    pub boot: Option<u64>,
    #[serde(rename = "m", default)]
    modbus: Option<(i64, i64)>,
    /// When it has booted lately.
    #[serde(rename = "r", default)]
    boots: Vec<Micros>,
    /// What is wrong, and since when.
    #[serde(rename = "o", default)]
    open: Vec<(Anomaly, Micros)>,
    /// Since which arrival its clock is ahead, and by how much.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    ahead: Option<(Micros, Micros)>,
    /// When its counters showed last what they can't have counted.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    suspects: Vec<Micros>,
    /// What tells of a second device with this id.
    #[serde(rename = "w", default)]
    twins: Twins,
}

/// What a message said of its device's clock.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClockNews {
    /// Whether it is ahead from now on, and by how much; none if that is as it was.
    pub changed: Option<Option<Micros>>,
    /// The anomaly that began or ended.
    pub condition: Option<Condition>,
}

/// A finding: the anomaly, whether it is there (none: it can't be said), and what about it.
type Finding = (Anomaly, Option<bool>, String, Option<f64>, Option<f64>);

const HOUR: Micros = 3600 * SECOND;

impl VitalState {
    /// Takes a heartbeat; one that is not newer than the newest says nothing any more.
    pub fn heartbeat(
        &mut self,
        ts: Micros,
        boot: Option<u64>,
        vitals: &Vitals,
        limits: &VitalLimits,
    ) -> Vec<Condition> {
        if self.ts.is_some_and(|newest| ts <= newest) {
            return Vec::new();
        }
        let booted = boot.is_some() && self.boot.is_some() && boot != self.boot;
        if booted {
            let jump = boot.zip(self.boot).map_or(1, |(now, then)| now.saturating_sub(then).max(1));
            // Boots between two heartbeats are known by their count alone.
            let times = usize::try_from(jump).unwrap_or(usize::MAX).min(32);
            self.boots.extend(std::iter::repeat_n(ts, times));
        }
        self.boots.retain(|at| ts.saturating_sub(*at) < HOUR);
        let excess = self.boots.len().saturating_sub(32);
        self.boots.drain(..excess);
        let findings = self.findings(booted, vitals, limits);
        (self.ts, self.boot) = (Some(ts), boot.or(self.boot));
        if let Some(counted) = vitals.modbus_ok.zip(vitals.modbus_errors) {
            self.modbus = Some(counted);
        }
        findings.into_iter().filter_map(|finding| self.note(ts, finding)).collect()
    }

    /// Notes whether a reading had keys that we know.
    pub fn readings_known(&mut self, ts: Micros, unknown: Option<&[String]>) -> Option<Condition> {
        let message = || format!("no reading has a known key; it sends {}", keys(unknown));
        let there = Some(unknown.is_some());
        self.note(ts, (Anomaly::NoKnownReadings, there, message(), None, None))
    }

    /// Notes by how much a device's clock is ahead of the arrival of what it sends, if it is.
    pub fn clock(&mut self, at: Micros, by: Option<Micros>, limits: &VitalLimits) -> ClockNews {
        let before = self.ahead;
        self.ahead = by.map(|by| (before.map_or(at, |(since, _)| since), by));
        let lasts = self.ahead.map(|(since, _)| at - since >= limits.clock_ahead_for);
        let seconds = by.map(|by| by as f64 / 1e6);
        let message = format!(
            "its clock is ahead by {:.0} s: set it, or let it be set by NTP",
            seconds.unwrap_or(0.0)
        );
        let there = Some(lasts.unwrap_or(false));
        ClockNews {
            changed: (before.is_some() != by.is_some()).then_some(by),
            condition: self.note(at, (Anomaly::ClockAhead, there, message, seconds, None)),
        }
    }

    /// Notes that a counter showed what it can't have counted.
    pub fn suspect_counter(&mut self, at: Micros, counter: &str, value: f64) -> Option<Condition> {
        // All counters at one time are one failure to read them.
        if self.suspects.last() != Some(&at) {
            self.suspects.push(at);
        }
        let many = self.suspects.len().saturating_sub(SUSPECTS);
        self.suspects.drain(..many);
        self.forget_suspects(at);
        let there = Some(self.suspects.len() >= SUSPECTS);
        let message = || {
            format!(
                "{counter} showed {value}, which it can't have counted, and others like it before: \
                 the wires to the meter, or what reads its registers"
            )
        };
        self.note(at, (Anomaly::ImplausibleCounter, there, message(), Some(value), None))
    }

    /// Notes that its counters have been read again and were in order.
    pub fn counters_are_calm(&mut self, at: Micros) -> Option<Condition> {
        self.forget_suspects(at);
        let there = Some(!self.suspects.is_empty());
        self.note(at, (Anomaly::ImplausibleCounter, there, String::new(), None, None))
    }

    fn forget_suspects(&mut self, at: Micros) {
        self.suspects.retain(|suspect| at - suspect < SUSPECT_FOR);
    }

    /// Looks at what a heartbeat says of the device that sent it; before [`Self::heartbeat`].
    pub fn beat_of(
        &mut self,
        ts: Micros,
        boot: Option<u64>,
        uptime_ms: Option<u64>,
    ) -> Option<Condition> {
        self.twins.beat(ts, boot, uptime_ms);
        self.note_twins(ts)
    }

    /// Looks at what a reading that arrived at a moment says of the device that sent it.
    pub fn reading_of(
        &mut self,
        ts: Micros,
        at: Micros,
        boot: Option<u64>,
        seq: Option<u64>,
    ) -> Option<Condition> {
        self.twins.reading(ts, at, boot, seq);
        self.note_twins(at)
    }

    /// Notes that a newer connection of the device took an older one over.
    pub fn taken_over(&mut self, at: Micros) -> Option<Condition> {
        self.twins.taken_over(at);
        self.note_twins(at)
    }

    fn note_twins(&mut self, at: Micros) -> Option<Condition> {
        let found = self.twins.found(at);
        let there = Some(found.is_some());
        self.note(at, (Anomaly::DuplicateId, there, found.unwrap_or_default(), None, None))
    }

    /// By how much its clock is ahead.
    #[must_use]
    pub fn clock_ahead(&self) -> Option<Micros> {
        self.ahead.map(|(_, by)| by)
    }

    /// Whether that is wrong at present.
    #[must_use]
    pub fn is_open(&self, anomaly: Anomaly) -> bool {
        self.open.iter().any(|(open, _)| *open == anomaly)
    }

    fn findings(&self, booted: bool, vitals: &Vitals, limits: &VitalLimits) -> Vec<Finding> {
        let reset = vitals.reset_reason.as_deref().unwrap_or_default();
        let crashed = matches!(reset, "panic" | "int_wdt" | "task_wdt" | "wdt");
        // Two devices that take turns are no loop.
        let boots = if self.is_open(Anomaly::DuplicateId) { 0 } else { self.boots.len() };
        let heap = vitals.free_heap;
        let mut findings = vec![
            // A restart is of a moment: it is over with the next heartbeat of the same boot.
            (
                Anomaly::Brownout,
                Some(booted && reset == "brownout"),
                "it restarted for want of power (brownout)".to_owned(),
                None,
                None,
            ),
            (
                Anomaly::Crash,
                Some(booted && crashed),
                format!("it restarted after a crash ({reset})"),
                None,
                None,
            ),
            (
                Anomaly::CrashLoop,
                Some(boots >= usize::try_from(limits.boots_per_hour).unwrap_or(usize::MAX)),
                format!("{boots} restarts within an hour"),
                Some(boots as f64),
                Some(f64::from(limits.boots_per_hour)),
            ),
            (
                Anomaly::LowMemory,
                heap.map(|heap| heap < limits.min_free_heap),
                format!("{} bytes of memory are free", heap.unwrap_or(0)),
                heap.map(|heap| heap as f64),
                Some(limits.min_free_heap as f64),
            ),
        ];
        findings.extend(self.modbus_finding(booted, vitals, limits));
        findings.extend(sd_finding(vitals, limits));
        findings
    }

    fn modbus_finding(
        &self,
        booted: bool,
        vitals: &Vitals,
        limits: &VitalLimits,
    ) -> Option<Finding> {
        let (ok, errors) = vitals.modbus_ok.zip(vitals.modbus_errors)?;
        let (ok_before, errors_before) = self.modbus.filter(|_| !booted).unwrap_or((0, 0));
        let (ok, errors) = (ok.saturating_sub(ok_before), errors.saturating_sub(errors_before));
        let all = ok.saturating_add(errors);
        if ok < 0 || errors < 0 || all == 0 {
            return None;
        }
        let share = errors as f64 / all as f64;
        let message = format!("{errors} of {all} Modbus exchanges failed");
        let wrong = share > limits.max_modbus_errors;
        let threshold = Some(limits.max_modbus_errors);
        Some((Anomaly::ModbusErrors, Some(wrong), message, Some(share), threshold))
    }

    /// Whether a finding changes anything.
    fn note(&mut self, ts: Micros, finding: Finding) -> Option<Condition> {
        let (anomaly, there, message, value, threshold) = finding;
        let at = self.open.iter().position(|(open, _)| *open == anomaly);
        let (begins, since) = match (there?, at) {
            (true, None) => {
                self.open.push((anomaly, ts));
                (true, ts)
            }
            (false, Some(at)) => (false, self.open.swap_remove(at).1),
            _ => return None,
        };
        Some(Condition { anomaly, ts, since, begins, message, value, threshold })
    }
}

fn sd_finding(vitals: &Vitals, limits: &VitalLimits) -> Option<Finding> {
    let free = vitals.sd_free_mb;
    let (wrong, message) = match (vitals.sd_present, free) {
        (Some(false), _) => (true, "the SD card is missing".to_owned()),
        (_, Some(free)) => {
            (free < limits.min_sd_free_mb, format!("the SD card has {free} MB free"))
        }
        (Some(true), None) => (false, String::new()),
        (None, None) => return None,
    };
    let value = free.map(|free| free as f64);
    let threshold = Some(limits.min_sd_free_mb as f64);
    Some((Anomaly::SdFailure, Some(wrong), message, value, threshold))
}

fn keys(unknown: Option<&[String]>) -> String {
    let keys = unknown.unwrap_or_default();
    if keys.is_empty() { "nothing else".to_owned() } else { keys.join(", ") }
}

#[cfg(test)]
mod tests;
