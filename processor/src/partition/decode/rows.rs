//! Facts about devices that are taken from their decoded readings.

use std::{collections::HashMap, sync::Arc};

use acuvim_tables::telemetry::{MOST_UNKNOWN, Unknown};
use acuvim_wire::{Micros, telemetry::Limits, time};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use super::updates::DeviceUpdates;

/// A reading that is older than this when it arrives was buffered, so it is no evidence about its
/// device's clock.
const LATE: Micros = 5 * 60 * time::SECOND;

/// The rows from an offset on; rows are in offset order.
pub(super) fn from_offset(rows: &RecordBatch, from: i64) -> RecordBatch {
    let offsets = rows.column_by_name("offset").map(|c| c.as_primitive::<Int64Type>().values());
    let first = offsets.map_or(0, |offsets| offsets.partition_point(|offset| *offset < from));
    rows.slice(first, rows.num_rows() - first)
}

/// Of the readings from an offset on: those without a known key, and the devices of the others.
pub(super) fn split_by_keys(
    rows: &RecordBatch,
    unknown: Vec<Unknown>,
    from: i64,
) -> (Vec<Unknown>, HashMap<Arc<str>, Micros>) {
    let too_many = unknown.len() >= MOST_UNKNOWN;
    let new = from_offset(rows, from);
    let first = rows.num_rows() - new.num_rows();
    let unknown: Vec<Unknown> = unknown.into_iter().filter(|u| u.row >= first).collect();
    let mut known: HashMap<Arc<str>, Micros> = HashMap::new();
    let (Some(devices), Some(times), false) =
        (new.column_by_name("device_id"), new.column_by_name("ts"), too_many)
    else {
        return (unknown, known);
    };
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    for (device, ts) in devices.as_string::<i32>().iter().flatten().zip(times.iter().copied()) {
        match known.get_mut(device) {
            Some(newest) => *newest = ts.max(*newest),
            None => {
                known.insert(device.into(), ts);
            }
        }
    }
    // One reading without a known key is enough for the alert to stay.
    unknown.iter().for_each(|reading| {
        known.remove(reading.device_id.as_str());
    });
    (unknown, known)
}

/// Adds the time of its newest reading to the update of each device, without those ahead of their
/// arrival.
pub(super) fn note_readings(rows: &RecordBatch, limits: &Limits, updates: &mut DeviceUpdates) {
    for (device, ts, received) in arrivals(rows) {
        if !limits.is_ahead(ts, received) {
            updates.measured(device, ts);
        }
    }
}

/// Compares the times of readings with their arrival, as evidence about their devices' clocks.
pub(super) fn note_clocks(rows: &RecordBatch, updates: &mut DeviceUpdates) {
    for (device, ts, received) in arrivals(rows) {
        if received - ts < LATE {
            updates.clock(device, ts, received);
        }
    }
}

/// The device, the time and the time of arrival of each reading.
pub(crate) fn arrivals(rows: &RecordBatch) -> impl Iterator<Item = (&str, Micros, Micros)> {
    let column = |name: &str| rows.column_by_name(name);
    let times = |name: &str| {
        let column = column(name).map(|c| c.as_primitive::<TimestampMicrosecondType>());
        column.map_or(&[][..], |c| c.values().as_ref())
    };
    let devices =
        column("device_id").into_iter().flat_map(|c| c.as_string::<i32>().iter().flatten());
    devices.zip(times("ts").iter().zip(times("received_at"))).map(|(d, (ts, at))| (d, *ts, *at))
}

#[cfg(test)]
mod tests;
