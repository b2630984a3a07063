//! What a meter's counter has counted between readings. Pure.

/// Where the meter's energy counters begin again at zero: after 99,999,999.9.
const ROLL_OVER: f64 = 100_000_000.0;

/// A counter that has rolled over was this near to its end, and is this near to its beginning.
const NEAR: f64 = ROLL_OVER / 10.0;

/// What was counted between two readings of one counter, the earlier one first. A counter that was
/// reset has counted nothing that is known: a reset is never consumption.
pub(super) fn increment(before: f64, after: f64) -> f64 {
    if after >= before {
        after - before
    } else if before >= ROLL_OVER - NEAR && after <= NEAR {
        ROLL_OVER - before + after
    } else {
        0.0
    }
}

/// The same for a net counter, which counts down too: a way round the end is taken for a roll-over if
/// it is the shorter one.
fn net_increment(before: f64, after: f64) -> f64 {
    let plain = after - before;
    if plain.abs() <= ROLL_OVER / 2.0 { plain } else { plain - plain.signum() * ROLL_OVER }
}

/// Which of the two a reading column is, if it is a counter at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Counts up.
    Total,
    /// Counts both ways.
    Net,
}

impl Counter {
    /// The kind of a reading column's counter.
    #[must_use]
    pub fn of(reading: &str) -> Option<Self> {
        if !reading.starts_with("energy_") {
            None
        } else if reading.contains("_net_") {
            Some(Self::Net)
        } else {
            Some(Self::Total)
        }
    }

    /// What was counted between two readings.
    #[must_use]
    pub fn increment(self, before: f64, after: f64) -> f64 {
        match self {
            Self::Total => increment(before, after),
            Self::Net => net_increment(before, after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_behind_their_end_and_resets_are_nothing() {
        assert!((increment(10.0, 12.5) - 2.5).abs() < 1e-9);
        assert!((increment(99_999_999.9, 0.4) - 0.5).abs() < 1e-6);
        assert!(increment(5000.0, 3.0).abs() < 1e-9, "a reset");
        assert!(increment(99_999_999.0, 50_000_000.0).abs() < 1e-9, "no roll-over");
        assert!((net_increment(-5.0, -7.5) + 2.5).abs() < 1e-9);
        assert!((net_increment(99_999_999.0, 1.0) - 2.0).abs() < 1e-6);
        assert!((net_increment(1.0, 99_999_999.0) + 2.0).abs() < 1e-6);
    }

    #[test]
    fn every_energy_is_a_counter_and_nothing_else_is() {
        use acuvim_schemas::reading::READINGS;
        let counters = READINGS.iter().filter(|r| Counter::of(r.name).is_some());
        assert!(counters.clone().all(|r| r.description.contains("Rolls over")));
        assert_eq!(
            counters.count(),
            READINGS.iter().filter(|r| r.description.contains("Rolls over")).count()
        );
        assert_eq!(Counter::of("energy_net_kwh"), Some(Counter::Net));
    }
}
