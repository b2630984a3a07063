//! Whether a device is there: its connection, and the freshness of what it says, as two facts.

use acuvim_schemas::{Micros, api::DeviceStatus, time::SECOND};

/// How silence is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Intervals without a heartbeat until a device is degraded.
    pub degraded_after: u32,
    /// And until it is offline.
    pub offline_after: u32,
    /// How long devices may take to come back after an interruption that was ours.
    pub grace: Micros,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { degraded_after: 3, offline_after: 5, grace: 300 * SECOND }
    }
}

/// Seconds between heartbeats of a device that does not say.
const INTERVAL_S: i64 = 60;

/// How far apart the readings of a device may be that has sent one and no heartbeat.
const SPACING: Micros = 900 * SECOND;

/// Messages that come closer together than this are of one go: they don't say how often one comes.
const TOGETHER: Micros = 5 * SECOND;

/// What is known of a device's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Its status.
    pub status: DeviceStatus,
    /// Whether its connection is known to be there; none if it never said.
    pub connected: Option<bool>,
    /// When the last of its messages arrived.
    pub heard_at: Option<Micros>,
    /// Seconds between its heartbeats.
    pub interval_s: Option<i64>,
    /// How far apart its other messages are, as far as that was learnt since the start: what a device
    /// that sends no heartbeats is judged by.
    pub spacing: Option<Micros>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            status: DeviceStatus::Offline,
            connected: None,
            heard_at: None,
            interval_s: None,
            spacing: None,
        }
    }
}

/// A sign of life, or of its end; never one that a broker had kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A heartbeat.
    Heartbeat {
        /// When it arrived.
        at: Micros,
        /// Seconds between heartbeats, if it says.
        interval_s: Option<u32>,
    },
    /// Any other message: readings, an answer, an alert, or one that can't be used.
    Heard {
        /// When it arrived.
        at: Micros,
    },
    /// It says that it is connected.
    Online {
        /// When that arrived.
        at: Micros,
    },
    /// It has announced itself, which says nothing of whether it will tell when it goes.
    Announced {
        /// When that arrived.
        at: Micros,
    },
    /// Its connection is gone, by its last will or its own word.
    Offline {
        /// When that arrived.
        at: Micros,
    },
}

impl Signal {
    /// When it arrived.
    #[must_use]
    pub const fn at(&self) -> Micros {
        match self {
            Self::Heartbeat { at, .. }
            | Self::Heard { at }
            | Self::Online { at }
            | Self::Announced { at }
            | Self::Offline { at } => *at,
        }
    }
}

/// A change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusChange {
    /// The status before.
    pub from: DeviceStatus,
    /// And from then on.
    pub to: DeviceStatus,
    /// When.
    pub at: Micros,
    /// Why: `heartbeat`, `heard`, `connected`, `registered`, `disconnected`, `silent`.
    pub reason: &'static str,
}

/// What a device's silence is measured by: how far its partition has been read in time, and since
/// when without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Up to when everything that came has been read.
    pub until: Micros,
    /// Since when that has gone on; before it, silence may have been ours.
    pub since: Micros,
}

impl Health {
    /// Takes a signal.
    pub fn signal(&mut self, signal: Signal) -> Option<StatusChange> {
        let (to, reason) = match signal {
            Signal::Heartbeat { at, interval_s } => {
                self.heard_at = self.heard_at.max(Some(at));
                self.interval_s = interval_s.map(i64::from).or(self.interval_s);
                // Who speaks is connected, unless it never says so.
                self.connected = self.connected.map(|_| true);
                (DeviceStatus::Online, "heartbeat")
            }
            Signal::Heard { at } => {
                self.learn_spacing(at);
                self.heard_at = self.heard_at.max(Some(at));
                // A will of a connection that it has left behind may have said otherwise.
                self.connected = self.connected.map(|_| true);
                (DeviceStatus::Online, "heard")
            }
            Signal::Online { at } => {
                self.connected = Some(true);
                self.heard_at = self.heard_at.max(Some(at));
                (DeviceStatus::Online, "connected")
            }
            Signal::Announced { at } => {
                self.heard_at = self.heard_at.max(Some(at));
                self.connected = self.connected.map(|_| true);
                (DeviceStatus::Online, "registered")
            }
            Signal::Offline { .. } => {
                self.connected = Some(false);
                (DeviceStatus::Offline, "disconnected")
            }
        };
        self.change(to, signal.at(), reason)
    }

    fn change(
        &mut self,
        to: DeviceStatus,
        at: Micros,
        reason: &'static str,
    ) -> Option<StatusChange> {
        let from = std::mem::replace(&mut self.status, to);
        (from != to).then_some(StatusChange { from, to, at, reason })
    }

    /// An outage is forgotten with the messages behind it.
    fn learn_spacing(&mut self, at: Micros) {
        let apart = self.heard_at.map(|heard| at - heard).filter(|apart| *apart >= TOGETHER);
        self.spacing = match (self.spacing, apart) {
            (None, _) => Some(SPACING),
            (Some(spacing), Some(apart)) => Some(apart.max(spacing - spacing / 8)),
            (spacing, None) => spacing,
        };
    }

    fn interval(&self) -> Micros {
        let (default, longest) = (INTERVAL_S * SECOND, 86_400 * SECOND);
        match self.interval_s {
            Some(seconds) => seconds.clamp(1, 86_400) * SECOND,
            None => self.spacing.map_or(default, |spacing| spacing.clamp(default, longest)),
        }
    }

    /// When its silence is next looked at; none if it can't get worse.
    #[must_use]
    pub fn due(&self, policy: &HealthPolicy) -> Option<Micros> {
        let heard = self.heard_at?;
        match (self.status, self.connected) {
            (DeviceStatus::Online, _) => {
                Some(heard + i64::from(policy.degraded_after) * self.interval())
            }
            (DeviceStatus::Degraded, Some(true)) | (DeviceStatus::Offline, _) => None,
            (DeviceStatus::Degraded, _) => {
                Some(heard + i64::from(policy.offline_after) * self.interval())
            }
        }
    }

    /// Judges its silence. A connected device that is silent is degraded, and no more; what was
    /// silent while nobody listened is given time to come back.
    pub fn silence(&mut self, beat: Beat, policy: &HealthPolicy) -> Vec<StatusChange> {
        let mut changes = Vec::new();
        while let Some(due) = self.due(policy) {
            let heard = self.heard_at.unwrap_or(due);
            let due = match heard < beat.since {
                true => beat.since + policy.grace + (due - heard),
                false => due,
            };
            if due > beat.until {
                break;
            }
            let to = match self.status {
                DeviceStatus::Online => DeviceStatus::Degraded,
                _ => DeviceStatus::Offline,
            };
            changes.extend(self.change(to, due, "silent"));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeviceStatus::{Degraded, Offline, Online};

    const POLICY: HealthPolicy =
        HealthPolicy { degraded_after: 3, offline_after: 5, grace: 300 * SECOND };

    fn heartbeat(second: i64) -> Signal {
        Signal::Heartbeat { at: second * SECOND, interval_s: Some(10) }
    }

    fn silence(health: &mut Health, until: i64, since: i64) -> Vec<(DeviceStatus, i64)> {
        let beat = Beat { until: until * SECOND, since: since * SECOND };
        let changes = health.silence(beat, &POLICY);
        changes.into_iter().map(|c| (c.to, c.at / SECOND)).collect()
    }

    #[test]
    fn degraded_after_three_intervals_offline_after_five_back_with_the_next() {
        let mut health = Health::default();
        let back = health.signal(heartbeat(100)).map(|c| (c.from, c.to));
        assert_eq!(back, Some((Offline, Online)));
        assert_eq!(health.signal(heartbeat(110)), None);
        assert_eq!(silence(&mut health, 139, 0), []);
        assert_eq!(silence(&mut health, 140, 0), [(Degraded, 140)]);
        assert_eq!(silence(&mut health, 159, 0), []);
        assert_eq!(silence(&mut health, 200, 0), [(Offline, 160)]);
        assert_eq!(silence(&mut health, 999, 0), []);
        assert_eq!(health.signal(heartbeat(300)).map(|c| c.to), Some(Online));
    }

    #[test]
    fn a_connected_device_that_is_silent_is_degraded_and_its_last_will_ends_that_at_once() {
        let mut health = Health::default();
        health.signal(Signal::Online { at: 100 * SECOND });
        health.signal(heartbeat(101));
        assert_eq!(silence(&mut health, 9999, 0), [(Degraded, 131)]);
        let will = health.signal(Signal::Offline { at: 10_000 * SECOND });
        assert_eq!(will.map(|c| (c.from, c.to)), Some((Degraded, Offline)));
        assert_eq!(health.connected, Some(false));
    }

    #[test]
    fn a_device_that_sends_readings_alone_is_there() {
        let heard = |second: i64| Signal::Heard { at: second * SECOND };
        let mut health = Health::default();
        assert_eq!(health.signal(heard(0)).map(|c| (c.to, c.reason)), Some((Online, "heard")));
        // Every quarter of an hour, and nothing else.
        for n in 1..20 {
            assert_eq!(silence(&mut health, 900 * n - 1, 0), []);
            assert_eq!(health.signal(heard(900 * n)), None);
        }
        let gone = [(Degraded, 900 * 22), (Offline, 900 * 24)];
        assert_eq!(silence(&mut health, 100_000, 0), gone);
        // The will of a connection that it has left behind is not the last word.
        let mut health = Health::default();
        health.signal(Signal::Online { at: 0 });
        health.signal(Signal::Offline { at: 100 * SECOND });
        assert_eq!(health.signal(heard(101)).map(|c| (c.from, c.to)), Some((Offline, Online)));
        assert_eq!(health.connected, Some(true));
        // Heartbeats say themselves how often they come.
        health.signal(heartbeat(110));
        assert_eq!(silence(&mut health, 999, 0), [(Degraded, 140)]);
    }

    #[test]
    fn one_that_only_announced_itself_goes_like_any_other() {
        let mut health = Health::default();
        health.signal(Signal::Announced { at: 100 * SECOND });
        assert_eq!(health.connected, None);
        assert_eq!(silence(&mut health, 9999, 0), [(Degraded, 280), (Offline, 400)]);
    }

    #[test]
    fn nobody_is_marked_for_the_time_in_which_nobody_listened() {
        let mut health = Health::default();
        health.signal(heartbeat(100));
        // The server was down from 105 to 1000: devices have their grace, then their intervals.
        assert_eq!(silence(&mut health, 1001, 1000), []);
        assert_eq!(silence(&mut health, 1329, 1000), []);
        assert_eq!(silence(&mut health, 1330, 1000), [(Degraded, 1330)]);
        assert_eq!(silence(&mut health, 1350, 1000), [(Offline, 1350)]);
    }

    #[test]
    fn intervals_are_bounded_and_sixty_seconds_by_default() {
        let mut health = Health::default();
        health.signal(Signal::Heartbeat { at: 0, interval_s: None });
        assert_eq!(health.due(&POLICY), Some(180 * SECOND));
        health.signal(Signal::Heartbeat { at: 0, interval_s: Some(0) });
        assert_eq!(health.due(&POLICY), Some(3 * SECOND));
        health.signal(Signal::Heartbeat { at: 0, interval_s: Some(u32::MAX) });
        assert_eq!(health.due(&POLICY), Some(3 * 86_400 * SECOND));
    }
}
