//! Daily limits per device. They are far beyond what a logger sends, and keep one that malfunctions, or that
//! somebody impersonates, from filling the log and the lake at the expense of all others.
//!
//! Days are UTC days. Each process counts for itself, in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use acuvim_wire::{Kind, Micros, time::DAY};

/// The most devices that are counted. Beyond that, devices within their limits are forgotten, and start
/// counting from zero again.
const MAX_DEVICES: usize = 100_000;

/// What one device may send in a day; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DailyLimits {
    /// Bytes of payload.
    pub bytes: u64,
    /// Alerts that the device raises or clears.
    pub alerts: u64,
}

/// Whether a message is within the limits of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowance {
    Within,
    /// The first message today over the limit with this setting's name.
    FirstOver(&'static str),
    Over,
}

/// What devices have sent today.
#[derive(Debug)]
pub(crate) struct DailyUse {
    limits: DailyLimits,
    today: Mutex<Today>,
}

#[derive(Debug, Default)]
struct Today {
    day: i64,
    devices: HashMap<String, Use>,
}

#[derive(Debug, Default)]
struct Use {
    bytes: u64,
    alerts: u64,
    /// Whether [`Allowance::FirstOver`] was returned already.
    reported_bytes: bool,
    reported_alerts: bool,
}

impl DailyUse {
    pub fn new(limits: DailyLimits) -> Self {
        Self { limits, today: Mutex::default() }
    }

    /// Counts a message of a device.
    pub fn count(&self, device: &str, kind: Kind, bytes: usize, at: Micros) -> Allowance {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        let day = at.div_euclid(DAY);
        // All counts at once, so that the map is also emptied of devices that are gone.
        if today.day != day {
            *today = Today { day, devices: HashMap::new() };
        }
        let Some(used) = today.entry(device) else { return Allowance::Within };
        used.bytes = used.bytes.saturating_add(bytes as u64);
        used.alerts += u64::from(kind == Kind::Alerts);
        let is_over = |limit: u64, used: u64| limit > 0 && used > limit;
        let (setting, reported) = if is_over(self.limits.bytes, used.bytes) {
            ("mqtt.device_mb_per_day", &mut used.reported_bytes)
        } else if kind == Kind::Alerts && is_over(self.limits.alerts, used.alerts) {
            ("mqtt.device_alerts_per_day", &mut used.reported_alerts)
        } else {
            return Allowance::Within;
        };
        match std::mem::replace(reported, true) {
            true => Allowance::Over,
            false => Allowance::FirstOver(setting),
        }
    }

    /// Takes back the count of a message that was not stored: the device will send it again.
    pub fn uncount(&self, device: &str, kind: Kind, bytes: usize) {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = today.devices.get_mut(device) {
            used.bytes = used.bytes.saturating_sub(bytes as u64);
            used.alerts = used.alerts.saturating_sub(u64::from(kind == Kind::Alerts));
            // The dead letter that reports the limit was not stored either.
            used.reported_bytes &= used.bytes > self.limits.bytes;
            used.reported_alerts &= used.alerts > self.limits.alerts;
        }
    }
}

impl Today {
    /// The counts of a device; none if there are too many devices to count another one.
    fn entry(&mut self, device: &str) -> Option<&mut Use> {
        if !self.devices.contains_key(device) {
            if self.devices.len() >= MAX_DEVICES {
                // Those over their limit stay, or filling the map with made-up devices would lift it.
                self.devices.retain(|_, used| used.reported_bytes || used.reported_alerts);
            }
            if self.devices.len() >= MAX_DEVICES {
                return None;
            }
            self.devices.insert(device.to_owned(), Use::default());
        }
        self.devices.get_mut(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_limited_by_device_and_day_and_reported_once() {
        let daily = DailyUse::new(DailyLimits { bytes: 100, alerts: 0 });
        let send = |device: &str, bytes, at| daily.count(device, Kind::Telemetry, bytes, at);
        assert_eq!(send("a", 100, 5), Allowance::Within);
        assert_eq!(send("a", 1, 6), Allowance::FirstOver("mqtt.device_mb_per_day"));
        assert_eq!(send("a", 1, 7), Allowance::Over);
        assert_eq!(send("b", 50, 8), Allowance::Within, "another device");
        assert_eq!(send("a", 1, DAY), Allowance::Within, "another day");
        assert_eq!(daily.count("a", Kind::Alerts, 1, DAY), Allowance::Within, "0: no limit");
    }

    #[test]
    fn alerts_have_a_limit_of_their_own() {
        let daily = DailyUse::new(DailyLimits { bytes: 0, alerts: 2 });
        let send = |kind| daily.count("a", kind, 10, 5);
        for _ in 0..2 {
            assert_eq!(send(Kind::Alerts), Allowance::Within);
        }
        assert_eq!(send(Kind::Alerts), Allowance::FirstOver("mqtt.device_alerts_per_day"));
        assert_eq!(send(Kind::Alerts), Allowance::Over);
        assert_eq!(send(Kind::Telemetry), Allowance::Within, "its readings are still taken");
    }

    #[test]
    fn messages_that_were_not_stored_do_not_count() {
        let daily = DailyUse::new(DailyLimits { bytes: 100, alerts: 1 });
        for _ in 0..10 {
            assert_eq!(daily.count("a", Kind::Alerts, 90, 5), Allowance::Within);
            daily.uncount("a", Kind::Alerts, 90);
        }
    }

    /// The report itself can fail to be stored. Then the next message over the limit has to report it.
    #[test]
    fn a_report_that_was_not_stored_is_made_again() {
        let daily = DailyUse::new(DailyLimits { bytes: 100, alerts: 0 });
        let send = |bytes| daily.count("a", Kind::Telemetry, bytes, 5);
        assert_eq!(send(90), Allowance::Within);
        assert!(matches!(send(20), Allowance::FirstOver(_)));
        daily.uncount("a", Kind::Telemetry, 20);
        assert!(matches!(send(20), Allowance::FirstOver(_)));
        assert_eq!(send(20), Allowance::Over);
        daily.uncount("a", Kind::Telemetry, 20);
        assert_eq!(send(20), Allowance::Over, "the first report is stored");
    }

    #[test]
    fn without_limits_everything_is_within() {
        let daily = DailyUse::new(DailyLimits::default());
        for _ in 0..10 {
            assert_eq!(daily.count("a", Kind::Alerts, usize::MAX, 5), Allowance::Within);
        }
        daily.uncount("nobody", Kind::Alerts, 1);
    }

    #[test]
    fn memory_is_bounded_and_devices_over_their_limit_stay_over_it() {
        let daily = DailyUse::new(DailyLimits { bytes: 10, alerts: 0 });
        let send = |device: &str, bytes| daily.count(device, Kind::Telemetry, bytes, 5);
        assert_eq!(send("mad", 11), Allowance::FirstOver("mqtt.device_mb_per_day"));
        for n in 0..MAX_DEVICES + 10 {
            assert_eq!(send(&n.to_string(), 1), Allowance::Within);
        }
        assert!(daily.today.lock().expect("lock").devices.len() <= MAX_DEVICES);
        assert_eq!(send("mad", 1), Allowance::Over);
    }
}
