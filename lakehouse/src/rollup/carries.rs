//! The stored states of counters at the ends of quarters, read back from rows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use acuvim_tables::rollup;
use acuvim_wire::{reading::Reading as Column, time::Micros};
use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::{Decimal128Type, TimestampMicrosecondType},
};

use super::{
    bucket::{COUNTERS, counters, scaled},
    counting::Carry,
    state::CounterState,
};
use crate::{
    batch::{column, device_times},
    counter::Track,
    error::Error,
};

/// Stored quarters by device and beginning, with the states of counters at their ends.
pub(super) type StoredQuarters = HashMap<Arc<str>, BTreeMap<Micros, Carry>>;

/// Adds the quarters of a batch, which has the columns of [`carry_columns`].
pub(super) fn add_carries(batch: &RecordBatch, into: &mut StoredQuarters) -> Result<(), Error> {
    let pairs = device_times(std::slice::from_ref(batch))?;
    for ((device, ts), carry) in pairs.into_iter().zip(carries(batch)?) {
        match into.get_mut(device) {
            Some(theirs) => {
                theirs.insert(ts, carry);
            }
            None => {
                into.insert(device.into(), BTreeMap::from([(ts, carry)]));
            }
        }
    }
    Ok(())
}

/// The columns with the state of counters at the end of a quarter.
pub(super) fn carry_columns() -> Vec<String> {
    let names = ["device_id", "ts", "last_ts", "meter_serial", rollup::COUNTER_STATE];
    let names = names.map(str::to_owned).into_iter();
    names.chain(counters().map(|(_, r)| last_of(r))).collect()
}

fn last_of(column: &Column) -> String {
    format!("{}_last", column.name)
}

/// The states of counters at the ends of the quarters of a batch.
pub(super) fn carries(batch: &RecordBatch) -> Result<Vec<Carry>, Error> {
    let last_ts = column(batch, "last_ts")?.as_primitive::<TimestampMicrosecondType>();
    let serials = column(batch, "meter_serial")?.as_string::<i32>();
    let lasts = counters()
        .map(|(_, r)| Ok(column(batch, &last_of(r))?.as_primitive::<Decimal128Type>()))
        .collect::<Result<Vec<_>, Error>>()?;
    let states = column(batch, rollup::COUNTER_STATE)?.as_string::<i32>();
    let carry = |row: usize| {
        // A state that can't be parsed is ignored: the next reading is then believed.
        let state = states.is_valid(row).then(|| serde_json::from_str(states.value(row)).ok());
        let state: CounterState = state.flatten().unwrap_or_default();
        let last_ts = last_ts.is_valid(row).then(|| last_ts.value(row));
        let mut tracks = [Track::default(); COUNTERS];
        for ((track, column), (_, reading)) in tracks.iter_mut().zip(&lasts).zip(counters()) {
            if column.is_valid(row) {
                let last = scaled(column.value(row));
                *track = state.track(reading, last, last_ts.unwrap_or_default());
            }
        }
        Carry {
            last_ts,
            serial: serials.is_valid(row).then(|| serials.value(row).into()),
            tracks,
            suspects: state.suspects,
        }
    };
    Ok((0..batch.num_rows()).map(carry).collect())
}

#[cfg(test)]
mod tests;
