//! The state of counters at the end of a quarter hour, beyond their last values: which counters did not
//! show their last value at the last reading, and which readings were in doubt. Stored as JSON, in the few
//! quarters that need it.

use std::collections::BTreeMap;

use acuvim_wire::{reading::Reading as Column, time::Micros};
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, Scaled, as_float, counters};
use crate::counter::{Doubt, Reading, Track};

/// The stored state, by the names of readings. Its field names are part of the format.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CounterState {
    /// The number of suspect readings that were found.
    #[serde(default)]
    pub suspects: i32,
    #[serde(default)]
    counters: BTreeMap<String, OneState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct OneState {
    /// The time of the believed reading.
    stood: Micros,
    /// When the counter last showed that value.
    seen: Micros,
    /// The reading in doubt as (time, value, how often in a row).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doubt: Option<(Micros, f64, u32)>,
}

impl CounterState {
    /// The state of a bucket; none if all counters showed their last values at its last reading.
    pub fn of(bucket: &Bucket) -> Option<Self> {
        let mut state = Self::default();
        for (at, column) in counters() {
            let Some(cell) = bucket.cells.get(at) else { continue };
            state.suspects = state.suspects.saturating_add(cell.suspects);
            let Some(believed) = cell.last else { continue };
            let is_last = Some(believed.ts) == bucket.last_ts && Some(cell.seen) == bucket.last_ts;
            // Almost all counters are read with every reading. Storing only the others keeps the
            // column empty and the files small.
            if cell.doubt.is_some() || !is_last {
                let doubt = cell.doubt.map(|d| (d.reading.ts, d.reading.value, d.times));
                let one = OneState { stood: believed.ts, seen: cell.seen, doubt };
                state.counters.insert(column.name.to_owned(), one);
            }
        }
        (state != Self::default()).then_some(state)
    }

    /// The track of a counter, from its last value and the time of the last reading in the bucket.
    pub fn track(&self, column: &Column, last: Scaled, last_ts: Micros) -> Track {
        let one = self.counters.get(column.name);
        let doubt = one.and_then(|one| one.doubt);
        let doubt = doubt.map(|(ts, value, times)| Doubt { reading: Reading { ts, value }, times });
        let (ts, seen) = one.map_or((last_ts, last_ts), |one| (one.stood, one.seen));
        Track::behind(Reading { ts, value: as_float(column, last) }, seen, doubt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_restored_as_it_was_stored() {
        let (at, column) = counters().next().expect("a counter");
        let last = Reading { ts: 5, value: 1.5 };
        let mut bucket = Bucket { last_ts: Some(5), ..Bucket::default() };
        (bucket.cells[at].last, bucket.cells[at].seen) = (Some(last), 5);
        assert_eq!(CounterState::of(&bucket), None, "nothing to store");
        let plain = CounterState::default().track(column, 150, 5);
        assert_eq!(plain, Track::behind(last, 5, None));
        bucket.last_ts = Some(9);
        let doubt = Doubt { reading: Reading { ts: 8, value: 0.0 }, times: 2 };
        (bucket.cells[at].doubt, bucket.cells[at].suspects) = (Some(doubt), 3);
        let text = serde_json::to_string(&CounterState::of(&bucket)).expect("json");
        let state: CounterState = serde_json::from_str(&text).expect("json");
        assert_eq!(state.suspects, 3);
        assert_eq!(state.track(column, 150, 9), Track::behind(last, 5, Some(doubt)));
    }
}
