//! The calendars of devices: which local days quarters belong to. Pure.

use std::{collections::HashMap, sync::Arc};

use acuvim_wire::time::{DAY, HOUR, Micros};
use chrono_tz::Tz;

use super::keys::{BucketKeys, add_key};
use crate::view::{Buckets, Interval};

/// No local day is longer, even where clocks are set back.
pub(super) const LONGEST_DAY: Micros = DAY + 3 * HOUR;

/// The time zone of each device. Devices without an entry have UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones(pub HashMap<Arc<str>, Tz>);

impl Zones {
    pub(super) fn of(&self, device_id: &str) -> Tz {
        self.0.get(device_id).copied().unwrap_or(Tz::UTC)
    }
}

/// The local days of a time zone.
pub(super) fn days(zone: Tz) -> Option<Buckets> {
    Buckets::new(Interval::Days(1), zone)
}

/// The local days that quarters lie in.
pub(super) fn local_days(quarters: &BucketKeys, zones: &Zones) -> BucketKeys {
    let mut keys = BucketKeys::new();
    for (device, starts) in quarters {
        let Some(calendar) = days(zones.of(device)) else { continue };
        for day in starts.iter().filter_map(|start| calendar.start(*start)) {
            add_key(&mut keys, device, day);
        }
    }
    keys
}

#[cfg(test)]
mod tests;
