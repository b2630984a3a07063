//! What a quarter of an hour says of its counters beside where they stood, as text: which of them
//! stopped before its last reading, and what was in doubt at its end. Most quarters have nothing to say.

use std::collections::BTreeMap;

use acuvim_schemas::{reading::Reading, time::Micros};
use serde::{Deserialize, Serialize};

use super::fold::{Bucket, Scaled, as_float, counters};
use crate::{Doubt, Reading as Stood, Track};

/// See the module; by the names of readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CounterState {
    /// Suspect readings that were found.
    #[serde(default)]
    pub suspects: i32,
    #[serde(default)]
    counters: BTreeMap<String, OneState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct OneState {
    /// When it stood where it stands, and when it showed that last.
    stood: Micros,
    seen: Micros,
    /// What is in doubt, and how many readings have shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doubt: Option<(Micros, f64, u32)>,
}

impl CounterState {
    /// What a bucket has to say; none if its counters stand where its last reading left them.
    pub fn of(bucket: &Bucket) -> Option<Self> {
        let mut state = Self::default();
        for (at, reading) in counters() {
            let Some(cell) = bucket.cells.get(at) else { continue };
            state.suspects = state.suspects.saturating_add(cell.suspects);
            let Some(stood) = cell.stood else { continue };
            let last = Some(stood.ts) == bucket.last_ts && Some(cell.seen) == bucket.last_ts;
            if cell.doubt.is_some() || !last {
                let doubt = cell.doubt.map(|d| (d.reading.ts, d.reading.value, d.times));
                let one = OneState { stood: stood.ts, seen: cell.seen, doubt };
                state.counters.insert(reading.name.to_owned(), one);
            }
        }
        (state != Self::default()).then_some(state)
    }

    /// How a counter goes on that stood somewhere at the end of a bucket.
    pub fn track(&self, reading: &Reading, last: Scaled, last_ts: Micros) -> Track {
        let one = self.counters.get(reading.name);
        let doubt = one.and_then(|one| one.doubt);
        let doubt = doubt.map(|(ts, value, times)| Doubt { reading: Stood { ts, value }, times });
        let (ts, seen) = one.map_or((last_ts, last_ts), |one| (one.stood, one.seen));
        Track::behind(Stood { ts, value: as_float(reading, last) }, seen, doubt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_goes_on() {
        let (at, reading) = counters().next().expect("a counter");
        let stood = Stood { ts: 5, value: 1.5 };
        let mut bucket = Bucket { last_ts: Some(5), ..Bucket::default() };
        (bucket.cells[at].stood, bucket.cells[at].seen) = (Some(stood), 5);
        assert_eq!(CounterState::of(&bucket), None, "as most are");
        let plain = CounterState::default().track(reading, 150, 5);
        assert_eq!(plain, Track::behind(stood, 5, None));
        bucket.last_ts = Some(9);
        let doubt = Doubt { reading: Stood { ts: 8, value: 0.0 }, times: 2 };
        (bucket.cells[at].doubt, bucket.cells[at].suspects) = (Some(doubt), 3);
        let text = serde_json::to_string(&CounterState::of(&bucket)).expect("json");
        let state: CounterState = serde_json::from_str(&text).expect("json");
        assert_eq!(state.suspects, 3);
        assert_eq!(state.track(reading, 150, 9), Track::behind(stood, 5, Some(doubt)));
    }
}
