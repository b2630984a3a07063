//! Detects two devices with the same id, such as a cloned logger: their counters give two interleaved series,
//! and their connections take each other over.
//!
//! A single device does neither. Its boot count never falls; its counters within a boot fall only at a
//! restart, and then grow with time; and its old connection ends when it opens a new one.

use acuvim_wire::{Micros, time::SECOND};
use serde::{Deserialize, Serialize};

/// Jumps back within an hour that show two devices. A replaced board or a lost counter causes one jump.
pub(crate) const JUMPS: usize = 3;

/// Connections taken over within ten minutes that show two devices. A bad line causes a few.
pub(crate) const TAKEOVERS: usize = 10;

const HOUR: Micros = 3600 * SECOND;
const TEN_MINUTES: Micros = 600 * SECOND;

/// An uptime may grow by this much more than the time that has passed, because clocks are adjusted.
const DRIFT_MS: u64 = 60_000;

/// The recent jumps and takeovers under one id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DuplicateDetector {
    /// Boot counts and uptimes of heartbeats.
    #[serde(rename = "b", default)]
    beats: Series,
    /// Boot counts and sequence numbers of readings.
    #[serde(rename = "r", default)]
    readings: Series,
    /// When counters jumped back.
    #[serde(rename = "j", default)]
    jumps: Vec<Micros>,
    /// When connections were taken over.
    #[serde(rename = "o", default)]
    takeovers: Vec<Micros>,
}

/// The counters in messages of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Series {
    #[serde(rename = "t")]
    ts: Option<Micros>,
    #[serde(rename = "b")]
    boot: Option<u64>,
    #[serde(rename = "n")]
    count: Option<u64>,
    /// The values before and after the last fall within this boot.
    #[serde(rename = "f")]
    fell: Option<(u64, u64)>,
    /// Whether it has jumped up since then by more than one device can count.
    #[serde(rename = "u")]
    rose: bool,
}

/// How a counter grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// By one for each millisecond.
    Time,
    /// By one for each reading, some of which may be lost.
    Readings,
}

impl Series {
    /// Adds a message. True if a counter jumped back in a way that one device can't cause. Messages that are
    /// not newer, by the time of the device, are ignored.
    fn jumps(&mut self, ts: Micros, boot: Option<u64>, count: Option<u64>, by: Growth) -> bool {
        let before = self.ts.replace(self.ts.map_or(ts, |newest| newest.max(ts)));
        if before.is_some_and(|before| ts <= before) {
            return false;
        }
        let passed = u64::try_from(before.map_or(0, |before| ts - before) / 1000).unwrap_or(0);
        let boot_before = self.boot;
        self.boot = boot.or(self.boot);
        let Some((now, then)) = boot.zip(boot_before).filter(|(now, then)| now != then) else {
            return self.counts(count, passed, by);
        };
        (self.count, self.fell, self.rose) = (count, None, false);
        // Upwards it is a restart, whatever the size of the jump: heartbeats may have been lost.
        now < then
    }

    /// As above, for messages of one boot.
    fn counts(&mut self, count: Option<u64>, passed: u64, by: Growth) -> bool {
        let Some(now) = count else { return false };
        let Some(then) = self.count.replace(now) else { return false };
        if now < then {
            self.fell = Some((then, now));
            return std::mem::take(&mut self.rose);
        }
        let Some((from, to)) = self.fell else { return false };
        let most = match by {
            Growth::Time => passed.saturating_add(DRIFT_MS),
            // Lost readings let a number jump too, but hardly by half the distance of the two
            // series.
            Growth::Readings => (from - to) / 2,
        };
        self.rose |= then < from && now > from && now - then > most;
        false
    }
}

impl DuplicateDetector {
    /// Adds a heartbeat.
    pub fn beat(&mut self, ts: Micros, boot: Option<u64>, uptime_ms: Option<u64>) {
        if self.beats.jumps(ts, boot, uptime_ms, Growth::Time) {
            self.jumps.push(ts);
        }
    }

    /// Adds a reading that arrived at `at`.
    pub fn reading(&mut self, ts: Micros, at: Micros, boot: Option<u64>, seq: Option<u64>) {
        if self.readings.jumps(ts, boot, seq, Growth::Readings) {
            self.jumps.push(at);
        }
    }

    /// Adds a connection that was taken over by a newer one.
    pub fn taken_over(&mut self, at: Micros) {
        self.takeovers.push(at);
    }

    /// Why there seem to be two devices at a moment, or `None` if there is one.
    pub fn found(&mut self, at: Micros) -> Option<String> {
        keep(&mut self.jumps, at - HOUR, JUMPS);
        keep(&mut self.takeovers, at - TEN_MINUTES, TAKEOVERS);
        let jump = (self.jumps.len() >= JUMPS).then_some(
            "its counters jump between two series: two devices seem to use this id".to_owned(),
        );
        jump.or_else(|| {
            (self.takeovers.len() >= TAKEOVERS).then(|| {
                "its connections take each other over all the time: two devices seem to use this \
                 id, or its line is unstable"
                    .to_owned()
            })
        })
    }
}

/// Keeps the last `most` times after a moment.
fn keep(times: &mut Vec<Micros>, after: Micros, most: usize) {
    times.retain(|at| *at > after);
    times.drain(..times.len().saturating_sub(most));
}

#[cfg(test)]
mod tests;
