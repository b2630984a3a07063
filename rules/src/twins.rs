//! Whether two devices share one id, as a cloned logger does: their counters give two series that take
//! turns, and their connections take each other over.
//!
//! One device alone does none of that: its boot count never falls, what it counts within a boot falls
//! only with a restart and then grows as time passes, and of two connections the older one ends.

use acuvim_schemas::{Micros, time::SECOND};
use serde::{Deserialize, Serialize};

/// Jumps back within an hour that tell of two devices. A replaced board and a counter that was lost
/// jump once.
pub(crate) const JUMPS: usize = 3;

/// Connections within ten minutes that were taken over. A line that breaks does that a few times.
pub(crate) const TAKEOVERS: usize = 10;

const HOUR: Micros = 3600 * SECOND;
const TEN_MINUTES: Micros = 600 * SECOND;

/// By how much more than the time that has passed an uptime may grow, in milliseconds: clocks are set.
const DRIFT_MS: u64 = 60_000;

/// What is known of a device's counters and connections lately.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Twins {
    /// Boot count and uptime, as heartbeats say.
    #[serde(rename = "b", default)]
    beats: Series,
    /// Boot count and number, as readings say.
    #[serde(rename = "r", default)]
    readings: Series,
    /// When a counter jumped back.
    #[serde(rename = "j", default)]
    jumps: Vec<Micros>,
    /// When a connection was taken over.
    #[serde(rename = "o", default)]
    takeovers: Vec<Micros>,
}

/// What messages of one kind count.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Series {
    #[serde(rename = "t")]
    ts: Option<Micros>,
    #[serde(rename = "b")]
    boot: Option<u64>,
    #[serde(rename = "n")]
    count: Option<u64>,
    /// From where to where it fell last within this boot.
    #[serde(rename = "f")]
    fell: Option<(u64, u64)>,
    /// Whether it has jumped up since, as by itself it could not.
    #[serde(rename = "u")]
    rose: bool,
}

/// How a count grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// With time, in milliseconds.
    Time,
    /// By one a reading, of which some are lost.
    Readings,
}

impl Series {
    /// Takes the next message, in the order of the device's time; true if it jumped back as one device
    /// does not.
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
        now < then
    }

    /// The same within one boot.
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
            Growth::Readings => (from - to) / 2,
        };
        self.rose |= then < from && now > from && now - then > most;
        false
    }
}

impl Twins {
    /// Takes a heartbeat.
    pub fn beat(&mut self, ts: Micros, boot: Option<u64>, uptime_ms: Option<u64>) {
        if self.beats.jumps(ts, boot, uptime_ms, Growth::Time) {
            self.jumps.push(ts);
        }
    }

    /// Takes a reading that arrived at a moment.
    pub fn reading(&mut self, ts: Micros, at: Micros, boot: Option<u64>, seq: Option<u64>) {
        if self.readings.jumps(ts, boot, seq, Growth::Readings) {
            self.jumps.push(at);
        }
    }

    /// Takes note of a connection that was taken over by a newer one.
    pub fn taken_over(&mut self, at: Micros) {
        self.takeovers.push(at);
    }

    /// Why there seem to be two devices at a moment, if there do.
    pub fn found(&mut self, at: Micros) -> Option<String> {
        keep(&mut self.jumps, at - HOUR, JUMPS);
        keep(&mut self.takeovers, at - TEN_MINUTES, TAKEOVERS);
        let jump = (self.jumps.len() >= JUMPS).then_some(
            "its counters jump between two series: two devices seem to use this id".to_owned(),
        );
        jump.or_else(|| {
            (self.takeovers.len() >= TAKEOVERS).then(|| {
                "its connections take each other over all the time: two devices seem to use this \
                 id, or its line breaks again and again"
                    .to_owned()
            })
        })
    }
}

/// Keeps the last so many of what came after a moment.
fn keep(times: &mut Vec<Micros>, after: Micros, most: usize) {
    times.retain(|at| *at > after);
    times.drain(..times.len().saturating_sub(most));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heartbeats ten seconds apart, as boot and uptime in seconds: whether they tell of two devices.
    fn beats(all: &[(Option<u64>, u64)]) -> bool {
        let mut twins = Twins::default();
        let mut found = false;
        for (n, (boot, uptime)) in (1..).zip(all) {
            twins.beat(n * 10 * SECOND, *boot, Some(uptime * 1000));
            let stored = serde_json::to_string(&twins).expect("json");
            twins = serde_json::from_str(&stored).expect("json");
            found |= twins.found(n * 10 * SECOND).is_some();
        }
        found
    }

    #[test]
    fn two_boot_counts_that_take_turns_are_two_devices() {
        let turns: Vec<_> =
            (0..8).map(|n| (Some(if n % 2 == 0 { 17 } else { 4 }), n * 10)).collect();
        assert!(beats(&turns));
        assert!(!beats(turns.get(..4).expect("four")), "a counter may be lost once or twice");
        let loops: Vec<_> = (0..20).map(|n| (Some(n), 5)).collect();
        assert!(!beats(&loops), "a loop of restarts counts up");
    }

    #[test]
    fn two_uptimes_that_take_turns_within_one_boot_are_two_devices() {
        let turn = |boot: Option<u64>| -> Vec<_> {
            (0..12).map(|n| (boot, if n % 2 == 0 { 50_000 } else { 10 } + n * 10)).collect()
        };
        assert!(beats(&turn(Some(1))));
        assert!(beats(&turn(None)));
        // One that loses its boot count starts again and again.
        let loops: Vec<_> = (0..30).map(|n| (Some(1), 10 * (n % 3 + 1))).collect();
        assert!(!beats(&loops));
    }

    #[test]
    fn readings_of_two_series_are_those_of_two_devices() {
        let told = |all: &[(u64, u64)]| {
            let mut twins = Twins::default();
            for (n, (boot, seq)) in (1..).zip(all) {
                twins.reading(n * SECOND, n * SECOND, Some(*boot), Some(*seq));
            }
            twins.found(60 * SECOND).is_some()
        };
        let boots: Vec<_> = (0..8).map(|n| (17 - n % 2, n)).collect();
        assert!(told(&boots));
        let numbers: Vec<_> =
            (0..12).map(|n| (1, if n % 2 == 0 { 9000 } else { 40 } + n)).collect();
        assert!(told(&numbers));
        let plain: Vec<_> = (0..50).map(|n| (1 + n / 10, n % 10)).collect();
        assert!(!told(&plain), "numbers begin anew with each boot");
        // What a card kept comes late, and is not looked at.
        let mut twins = Twins::default();
        for n in 1..20 {
            twins.reading(1000 * SECOND + n * SECOND, n * SECOND, Some(9), None);
            twins.reading(n * SECOND, n * SECOND, Some(3), None);
        }
        assert_eq!(twins.found(60 * SECOND), None);
    }

    #[test]
    fn connections_that_take_each_other_over_all_the_time_are_told_until_they_cease() {
        let mut twins = Twins::default();
        for n in 1..10 {
            twins.taken_over(n * SECOND);
        }
        assert_eq!(twins.found(10 * SECOND), None);
        twins.taken_over(10 * SECOND);
        let why = twins.found(10 * SECOND).expect("they are too many");
        assert!(why.contains("two devices"), "{why}");
        assert_eq!(twins.found(700 * SECOND), None);
    }
}
