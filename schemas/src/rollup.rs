//! The columns of the rollups: what a quarter of an hour, or a day, says of each reading.

use std::sync::OnceLock;

use crate::reading::{READINGS, Reading};

/// The column of quarters of an hour that says which counters stopped before the last reading, and what
/// of them was in doubt, as JSON; null if there is nothing to say.
pub const COUNTER_STATE: &str = "counter_state";

/// What a column says of its reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// How many values there were.
    Count,
    /// The least of them.
    Min,
    /// The greatest.
    Max,
    /// Their mean.
    Avg,
    /// Of a counter: what it has counted since the value before, which may lie in an earlier bucket.
    Delta,
    /// Of a counter: where it stood at the end; nothing if another meter was connected since.
    Last,
    /// Of a counter: how many of its readings were found to be suspect, and count nothing.
    Suspect,
}

impl Said {
    /// The end of the column's name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::Delta => "delta",
            Self::Last => "last",
            Self::Suspect => "suspect",
        }
    }
}

/// A column of a rollup that is about a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupColumn {
    /// The reading's name and what is said of it, such as `voltage_l1_v_max`.
    pub name: String,
    /// The index of the reading among [`READINGS`].
    pub reading: usize,
    /// What is said of it.
    pub said: Said,
}

/// What is said of a reading. Of a counter neither the least nor the mean says anything.
#[must_use]
pub const fn said_of(reading: &Reading) -> &'static [Said] {
    if reading.is_counter() {
        &[Said::Count, Said::Delta, Said::Last, Said::Suspect]
    } else {
        &[Said::Count, Said::Min, Said::Max, Said::Avg]
    }
}

/// The columns about readings, in the order of the tables.
pub fn columns() -> &'static [RollupColumn] {
    static COLUMNS: OnceLock<Vec<RollupColumn>> = OnceLock::new();
    COLUMNS.get_or_init(|| {
        let of = |(reading, r): (usize, &'static Reading)| {
            said_of(r).iter().map(move |said| RollupColumn {
                name: format!("{}_{}", r.name, said.suffix()),
                reading,
                said: *said,
            })
        };
        READINGS.iter().enumerate().flat_map(of).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_is_counted_and_counters_count() {
        let counted = columns().iter().filter(|c| c.said == Said::Count).count();
        assert_eq!(counted, READINGS.len());
        let names: Vec<&str> = columns().iter().map(|c| c.name.as_str()).collect();
        assert!(names.contains(&"voltage_l1_v_avg") && names.contains(&"energy_net_kwh_delta"));
        assert!(!names.contains(&"energy_import_kwh_avg"));
        let unique: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }
}
