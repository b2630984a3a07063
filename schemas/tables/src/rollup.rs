//! The columns of the rollups: statistics of each reading over a quarter of an hour or a day.

use std::sync::OnceLock;

use acuvim_wire::reading::{READINGS, Reading};

/// The column of `rollup_15m` with the counters whose last value is older than the last reading, and
/// doubts about counters, as JSON; null if there are none.
pub const COUNTER_STATE: &str = "counter_state";

/// A statistic of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stat {
    /// The number of values.
    Count,
    /// The least value, in the unit and with the digits of the reading.
    Min,
    /// The greatest value, in the unit and with the digits of the reading.
    Max,
    /// The mean of the values, each counted once, as a float.
    Avg,
    /// Of a counter: what it has counted since the value before, which may be in an earlier bucket.
    Delta,
    /// Of a counter: its last value; none if another meter was connected since.
    Last,
    /// Of a counter: the number of implausible readings, which do not count.
    Suspect,
}

impl Stat {
    /// The last part of the column's name.
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

/// A column with a statistic of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupColumn {
    /// The reading and the statistic, such as `voltage_l1_v_max`.
    pub name: String,
    /// The index of the reading among [`READINGS`].
    pub reading: usize,
    /// Which statistic of the reading it holds.
    pub stat: Stat,
}

/// The statistics of a reading. Minimum and mean of a counter would be meaningless.
#[must_use]
pub const fn stats_of(reading: &Reading) -> &'static [Stat] {
    // Minimum and maximum of a counter are its first and last value, unless it has rolled over.
    if reading.is_counter() {
        &[Stat::Count, Stat::Delta, Stat::Last, Stat::Suspect]
    } else {
        &[Stat::Count, Stat::Min, Stat::Max, Stat::Avg]
    }
}

/// The columns of readings, in the order of the tables.
pub fn columns() -> &'static [RollupColumn] {
    static COLUMNS: OnceLock<Vec<RollupColumn>> = OnceLock::new();
    COLUMNS.get_or_init(|| {
        let of = |(reading, r): (usize, &'static Reading)| {
            stats_of(r).iter().map(move |stat| RollupColumn {
                name: format!("{}_{}", r.name, stat.suffix()),
                reading,
                stat: *stat,
            })
        };
        READINGS.iter().enumerate().flat_map(of).collect()
    })
}

#[cfg(test)]
mod tests;
