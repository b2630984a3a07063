//! What one device may send in a day. The bounds are far beyond what a logger has to say: they keep one
//! that has gone mad, or that somebody else speaks for, from filling the log and the lake for all.
//!
//! Counted is by the day of UTC, in the memory of each process.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use acuvim_schemas::{Kind, Micros, time::DAY};

/// Devices that are counted; beyond, those within their bounds begin anew.
const MOST: usize = 100_000;

/// What one device may send in a day; 0: any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DailyLimits {
    /// Bytes of payload.
    pub bytes: u64,
    /// Alerts of its own.
    pub alerts: u64,
}

/// Whether a message is within its device's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    Within,
    /// It is the first beyond the bound of this name today.
    First(&'static str),
    Beyond,
}

/// What devices have sent today.
#[derive(Debug)]
pub(crate) struct Daily {
    limits: DailyLimits,
    today: Mutex<Today>,
}

#[derive(Debug, Default)]
struct Today {
    day: i64,
    devices: HashMap<String, Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    bytes: u64,
    alerts: u64,
    /// Whether it is said already that there are too many of them.
    told_bytes: bool,
    told_alerts: bool,
}

impl Daily {
    pub fn new(limits: DailyLimits) -> Self {
        Self { limits, today: Mutex::default() }
    }

    /// Counts a message.
    pub fn take(&self, device: &str, kind: Kind, bytes: usize, at: Micros) -> Share {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        let day = at.div_euclid(DAY);
        if today.day != day {
            *today = Today { day, devices: HashMap::new() };
        }
        let Some(sent) = today.of(device) else { return Share::Within };
        sent.bytes = sent.bytes.saturating_add(bytes as u64);
        sent.alerts += u64::from(kind == Kind::Alerts);
        let over = |limit: u64, sent: u64| limit > 0 && sent > limit;
        let (name, told) = if over(self.limits.bytes, sent.bytes) {
            ("mqtt.device_mb_per_day", &mut sent.told_bytes)
        } else if kind == Kind::Alerts && over(self.limits.alerts, sent.alerts) {
            ("mqtt.device_alerts_per_day", &mut sent.told_alerts)
        } else {
            return Share::Within;
        };
        match std::mem::replace(told, true) {
            true => Share::Beyond,
            false => Share::First(name),
        }
    }

    /// Counts a message no longer: it was not taken, and comes again.
    pub fn give_back(&self, device: &str, kind: Kind, bytes: usize) {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = today.devices.get_mut(device) {
            sent.bytes = sent.bytes.saturating_sub(bytes as u64);
            sent.alerts = sent.alerts.saturating_sub(u64::from(kind == Kind::Alerts));
            // What was to be told of it was not taken either.
            sent.told_bytes &= sent.bytes > self.limits.bytes;
            sent.told_alerts &= sent.alerts > self.limits.alerts;
        }
    }
}

impl Today {
    /// What a device has sent; none if there are too many devices to count this one.
    fn of(&mut self, device: &str) -> Option<&mut Sent> {
        if !self.devices.contains_key(device) {
            if self.devices.len() >= MOST {
                self.devices.retain(|_, sent| sent.told_bytes || sent.told_alerts);
            }
            if self.devices.len() >= MOST {
                return None;
            }
            self.devices.insert(device.to_owned(), Sent::default());
        }
        self.devices.get_mut(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_share_of_bytes_and_is_told_of_once_a_day() {
        let daily = Daily::new(DailyLimits { bytes: 100, alerts: 0 });
        let send = |device: &str, bytes, at| daily.take(device, Kind::Telemetry, bytes, at);
        assert_eq!(send("a", 100, 5), Share::Within);
        assert_eq!(send("a", 1, 6), Share::First("mqtt.device_mb_per_day"));
        assert_eq!(send("a", 1, 7), Share::Beyond);
        assert_eq!(send("b", 50, 8), Share::Within, "another device");
        assert_eq!(send("a", 1, DAY), Share::Within, "another day");
        assert_eq!(daily.take("a", Kind::Alerts, 1, DAY), Share::Within, "0: any number");
    }

    #[test]
    fn alerts_have_a_share_of_their_own() {
        let daily = Daily::new(DailyLimits { bytes: 0, alerts: 2 });
        let send = |kind| daily.take("a", kind, 10, 5);
        for _ in 0..2 {
            assert_eq!(send(Kind::Alerts), Share::Within);
        }
        assert_eq!(send(Kind::Alerts), Share::First("mqtt.device_alerts_per_day"));
        assert_eq!(send(Kind::Alerts), Share::Beyond);
        assert_eq!(send(Kind::Telemetry), Share::Within, "its readings are taken");
    }

    #[test]
    fn what_was_not_taken_does_not_count() {
        let daily = Daily::new(DailyLimits { bytes: 100, alerts: 1 });
        for _ in 0..10 {
            assert_eq!(daily.take("a", Kind::Alerts, 90, 5), Share::Within);
            daily.give_back("a", Kind::Alerts, 90);
        }
    }

    #[test]
    fn memory_is_bounded_and_who_is_over_stays_over() {
        let daily = Daily::new(DailyLimits { bytes: 10, alerts: 0 });
        let send = |device: &str, bytes| daily.take(device, Kind::Telemetry, bytes, 5);
        assert_eq!(send("mad", 11), Share::First("mqtt.device_mb_per_day"));
        for n in 0..MOST + 10 {
            assert_eq!(send(&n.to_string(), 1), Share::Within);
        }
        assert!(daily.today.lock().expect("lock").devices.len() <= MOST);
        assert_eq!(send("mad", 1), Share::Beyond);
    }
}
