//! Anomalies of a device: restarts, memory, Modbus, SD card, clock, counters, duplicate ids.

use acuvim_wire::{Micros, time::SECOND, vitals::Vitals};
use serde::{Deserialize, Serialize};

use crate::duplicate_id::DuplicateDetector;

/// The limits of normal values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VitalLimits {
    /// The lowest normal free heap, in bytes.
    pub min_free_heap: i64,
    /// The highest normal share of failed Modbus exchanges between two heartbeats.
    pub max_modbus_errors: f64,
    /// Boots within an hour that are a crash loop.
    pub boots_per_hour: u32,
    /// The lowest normal free space on the SD card, in MB.
    pub min_sd_free_mb: i64,
    /// How long a clock must be ahead before that is an anomaly.
    pub clock_ahead_for: Micros,
}

/// This many implausible counter readings within [`SUSPECT_FOR`] are an anomaly, until none is left in it.
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

/// A kind of anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anomaly {
    /// The device restarted because of a low supply voltage.
    Brownout,
    /// The device restarted because of a crash.
    Crash,
    /// The device restarts again and again.
    CrashLoop,
    /// Its memory is low.
    LowMemory,
    /// Too many Modbus exchanges with its meter fail.
    ModbusErrors,
    /// Its SD card is missing or nearly full.
    SdFailure,
    /// Its readings have no known key.
    NoKnownReadings,
    /// Its clock has been ahead for a while.
    ClockAhead,
    /// Its counters show impossible values again and again.
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

/// The beginning or end of an anomaly.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The anomaly.
    pub anomaly: Anomaly,
    /// When it began or ended.
    pub ts: Micros,
    /// When it began, which identifies its alert.
    pub since: Micros,
    /// Whether it began, rather than ended.
    pub begins: bool,
    /// The message, for people.
    pub message: String,
    /// The value that broke the limit.
    pub value: Option<f64>,
    /// The limit that was exceeded.
    pub threshold: Option<f64>,
}

/// The state that is kept of a device between its messages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VitalState {
    /// The time of the newest heartbeat.
    #[serde(rename = "t")]
    pub ts: Option<Micros>,
    /// The boot count in it.
    #[serde(rename = "b")]
    pub boot: Option<u64>,
    #[serde(rename = "m", default)]
    modbus: Option<(i64, i64)>,
    /// The times of boots within the last hour.
    #[serde(rename = "r", default)]
    boots: Vec<Micros>,
    /// The current anomalies, each with its beginning.
    #[serde(rename = "o", default)]
    open: Vec<(Anomaly, Micros)>,
    /// If its clock is ahead: since which arrival, and by how much.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    ahead: Option<(Micros, Micros)>,
    /// The times of recent implausible counter readings.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    suspects: Vec<Micros>,
    /// Signs of a second device with the same id.
    #[serde(rename = "w", default)]
    duplicates: DuplicateDetector,
}

/// What a message shows about the clock of its device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClockNews {
    /// If that changed: whether the clock is ahead from now on, and by how much.
    pub changed: Option<Option<Micros>>,
    /// The anomaly that began or ended.
    pub condition: Option<Condition>,
}

/// What a message shows about an anomaly.
#[derive(Debug)]
struct Finding {
    anomaly: Anomaly,
    /// Whether the anomaly is there; `None` if the message does not show that.
    is_there: Option<bool>,
    message: String,
    value: Option<f64>,
    threshold: Option<f64>,
}

impl Finding {
    const fn new(anomaly: Anomaly, is_there: bool, message: String) -> Self {
        Self { anomaly, is_there: Some(is_there), message, value: None, threshold: None }
    }
}

const HOUR: Micros = 3600 * SECOND;

impl VitalState {
    /// Applies a heartbeat. One that is not newer than the newest is ignored.
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
            // Boots without a heartbeat are only known from the boot count.
            let times = usize::try_from(jump).unwrap_or(usize::MAX).min(32);
            // A count that jumps by millions, after its flash was replaced, must not fill the
            // memory.
            self.boots.extend(std::iter::repeat_n(ts, times));
        }
        self.boots.retain(|at| ts.saturating_sub(*at) < HOUR);
        // No limit that can be set is above this, so that the state of a device stays small.
        let excess = self.boots.len().saturating_sub(32);
        self.boots.drain(..excess);
        let findings = self.findings(booted, vitals, limits);
        // Only now, because the findings compare with the heartbeat before.
        (self.ts, self.boot) = (Some(ts), boot.or(self.boot));
        if let Some(counted) = vitals.modbus_ok.zip(vitals.modbus_errors) {
            self.modbus = Some(counted);
        }
        findings.into_iter().filter_map(|finding| self.note(ts, finding)).collect()
    }

    /// Applies whether a reading had known keys; `unknown` are the keys of one that had none.
    pub fn readings_known(&mut self, ts: Micros, unknown: Option<&[String]>) -> Option<Condition> {
        let message = || format!("no reading has a known key; it sends {}", keys(unknown));
        self.note(ts, Finding::new(Anomaly::NoKnownReadings, unknown.is_some(), message()))
    }

    /// Applies by how much the clock of the device is ahead of the arrival of its messages, if it is.
    pub fn clock(&mut self, at: Micros, by: Option<Micros>, limits: &VitalLimits) -> ClockNews {
        let before = self.ahead;
        self.ahead = by.map(|by| (before.map_or(at, |(since, _)| since), by));
        let lasts = self.ahead.map(|(since, _)| at - since >= limits.clock_ahead_for);
        let seconds = by.map(|by| by as f64 / 1e6);
        let message = format!(
            "its clock is ahead by {:.0} s: set it, or let it be set by NTP",
            seconds.unwrap_or(0.0)
        );
        let finding = Finding {
            value: seconds,
            ..Finding::new(Anomaly::ClockAhead, lasts.unwrap_or(false), message)
        };
        ClockNews {
            changed: (before.is_some() != by.is_some()).then_some(by),
            condition: self.note(at, finding),
        }
    }

    /// Applies an impossible value of a counter.
    pub fn suspect_counter(&mut self, at: Micros, counter: &str, value: f64) -> Option<Condition> {
        // Several counters at the same time are one failed read.
        if self.suspects.last() != Some(&at) {
            self.suspects.push(at);
        }
        let excess = self.suspects.len().saturating_sub(SUSPECTS);
        self.suspects.drain(..excess);
        self.forget_suspects(at);
        let many = self.suspects.len() >= SUSPECTS;
        let message = format!(
            "{counter} showed {value}, which it can't have counted, and others like it before: \
             the wires to the meter, or what reads its registers"
        );
        let finding = Finding::new(Anomaly::ImplausibleCounter, many, message);
        self.note(at, Finding { value: Some(value), ..finding })
    }

    /// Applies that counters were read again, with plausible values.
    pub fn counters_are_calm(&mut self, at: Micros) -> Option<Condition> {
        self.forget_suspects(at);
        let some = !self.suspects.is_empty();
        self.note(at, Finding::new(Anomaly::ImplausibleCounter, some, String::new()))
    }

    fn forget_suspects(&mut self, at: Micros) {
        self.suspects.retain(|suspect| at - suspect < SUSPECT_FOR);
    }

    /// Checks a heartbeat for a second device with the id. To be called before [`Self::heartbeat`].
    pub fn beat_of(
        &mut self,
        ts: Micros,
        boot: Option<u64>,
        uptime_ms: Option<u64>,
    ) -> Option<Condition> {
        self.duplicates.beat(ts, boot, uptime_ms);
        self.note_duplicates(ts)
    }

    /// Checks a reading that arrived at `at` for a second device with the id.
    pub fn reading_of(
        &mut self,
        ts: Micros,
        at: Micros,
        boot: Option<u64>,
        seq: Option<u64>,
    ) -> Option<Condition> {
        self.duplicates.reading(ts, at, boot, seq);
        self.note_duplicates(at)
    }

    /// Applies that a newer connection with the id took over an older one.
    pub fn taken_over(&mut self, at: Micros) -> Option<Condition> {
        self.duplicates.taken_over(at);
        self.note_duplicates(at)
    }

    fn note_duplicates(&mut self, at: Micros) -> Option<Condition> {
        let found = self.duplicates.found(at);
        let is_there = found.is_some();
        self.note(at, Finding::new(Anomaly::DuplicateId, is_there, found.unwrap_or_default()))
    }

    /// By how much its clock is ahead, if it is.
    #[must_use]
    pub fn clock_ahead(&self) -> Option<Micros> {
        self.ahead.map(|(_, by)| by)
    }

    /// Whether an anomaly is open.
    #[must_use]
    pub fn is_open(&self, anomaly: Anomaly) -> bool {
        self.open.iter().any(|(open, _)| *open == anomaly)
    }

    fn findings(&self, booted: bool, vitals: &Vitals, limits: &VitalLimits) -> Vec<Finding> {
        let reset = vitals.reset_reason.as_deref().unwrap_or_default();
        let crashed = matches!(reset, "panic" | "int_wdt" | "task_wdt" | "wdt");
        // Two devices with interleaved boot counts are not a crash loop.
        let boots = if self.is_open(Anomaly::DuplicateId) { 0 } else { self.boots.len() };
        let heap = vitals.free_heap;
        let mut findings = vec![
            // A restart is a moment, and is over with the next heartbeat of the same boot.
            Finding::new(
                Anomaly::Brownout,
                booted && reset == "brownout",
                "it restarted because of a low supply voltage (brownout)".to_owned(),
            ),
            Finding::new(
                Anomaly::Crash,
                booted && crashed,
                format!("it restarted after a crash ({reset})"),
            ),
            Finding {
                value: Some(boots as f64),
                threshold: Some(f64::from(limits.boots_per_hour)),
                ..Finding::new(
                    Anomaly::CrashLoop,
                    boots >= usize::try_from(limits.boots_per_hour).unwrap_or(usize::MAX),
                    format!("{boots} restarts within an hour"),
                )
            },
            Finding {
                anomaly: Anomaly::LowMemory,
                is_there: heap.map(|heap| heap < limits.min_free_heap),
                message: format!("{} bytes of memory are free", heap.unwrap_or(0)),
                value: heap.map(|heap| heap as f64),
                threshold: Some(limits.min_free_heap as f64),
            },
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
        // A restart sets the counts of the device to zero.
        let (ok_before, errors_before) = self.modbus.filter(|_| !booted).unwrap_or((0, 0));
        let (ok, errors) = (ok.saturating_sub(ok_before), errors.saturating_sub(errors_before));
        let all = ok.saturating_add(errors);
        // Counts that fell without a restart show nothing about the exchanges between the two
        // heartbeats.
        if ok < 0 || errors < 0 || all == 0 {
            return None;
        }
        let share = errors as f64 / all as f64;
        let message = format!("{errors} of {all} Modbus exchanges failed");
        let wrong = share > limits.max_modbus_errors;
        let threshold = Some(limits.max_modbus_errors);
        let finding = Finding::new(Anomaly::ModbusErrors, wrong, message);
        Some(Finding { value: Some(share), threshold, ..finding })
    }

    /// Opens or closes an anomaly by a finding, and returns the change, if there is one.
    fn note(&mut self, ts: Micros, finding: Finding) -> Option<Condition> {
        let Finding { anomaly, is_there, message, value, threshold } = finding;
        let at = self.open.iter().position(|(open, _)| *open == anomaly);
        let (begins, since) = match (is_there?, at) {
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
    Some(Finding { value, threshold, ..Finding::new(Anomaly::SdFailure, wrong, message) })
}

fn keys(unknown: Option<&[String]>) -> String {
    let keys = unknown.unwrap_or_default();
    if keys.is_empty() { "nothing else".to_owned() } else { keys.join(", ") }
}

#[cfg(test)]
mod tests;
