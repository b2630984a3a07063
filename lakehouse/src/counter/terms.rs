//! The limits of a meter's counters: where they roll over, and how fast they can count.

use acuvim_wire::{
    Micros,
    time::{HOUR, MINUTE},
};

/// The most amperes that the current inputs can represent, with transformers of 50,000:5 A.
const MAX_AMPERES: f64 = 50_000.0;

/// The assumed phase voltage, in V, of a meter whose nominal voltage is unknown.
const DEFAULT_VOLTS: f64 = 690.0;

/// The most power, in kW, that is believed of a meter whose counter was at zero a moment ago.
const MOST_FROM_ZERO_KW: f64 = 600.0;

/// The kind of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Counts up only: imported, exported, or both added.
    Total,
    /// Counts in both directions: imported less exported.
    Net,
}

impl Counter {
    /// The kind of a reading's counter; none if the reading is not a counter.
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
}

/// The value of a counter at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When it was read.
    pub ts: Micros,
    /// Its value in kWh, kvarh or kVAh.
    pub value: f64,
}

/// The limits of a meter's counters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeterTerms {
    /// The value at which they roll over to zero, in kWh, kvarh or kVAh.
    pub end: f64,
    /// The most that they count per hour: the greatest power, in kW, kvar or kVA.
    pub per_hour: f64,
}

impl Default for MeterTerms {
    /// Those of an Acuvim II in primary mode, whose counters roll over after 99,999,999.9.
    fn default() -> Self {
        Self { end: 100_000_000.0, per_hour: max_power_kw(DEFAULT_VOLTS) }
    }
}

impl MeterTerms {
    /// The limits that follow from what is known of a meter: its nominal voltage in V, its greatest power
    /// in kW, and where its counters roll over.
    #[must_use]
    pub fn of(volts: Option<f64>, greatest_kw: Option<f64>, end: Option<f64>) -> Self {
        let default = Self::default();
        let per_hour = greatest_kw.or(volts.map(max_power_kw)).unwrap_or(default.per_hour);
        Self { end: end.unwrap_or(default.end), per_hour }
    }

    /// How far a counter may step back without a reset: by one of its digits, or by the rounding of a
    /// 32-bit float.
    pub(super) fn tolerance(&self, value: f64) -> f64 {
        (self.end / 1e9).max(0.01).max(value.abs() / 8e6) * 1.001
    }

    /// The most that a counter at zero is believed to have counted: what a large site takes.
    pub(super) fn reach_from_zero(&self, from: Reading, to: Reading) -> f64 {
        let new = Self { per_hour: self.per_hour.min(MOST_FROM_ZERO_KW), ..*self };
        new.reach(from, to)
    }

    /// The most that can be counted between two readings.
    pub(super) fn reach(&self, from: Reading, to: Reading) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 microseconds")]
        // At least a minute, since a counter can advance in one step by what was consumed before
        // the step.
        let hours = to.ts.saturating_sub(from.ts).max(MINUTE) as f64 / HOUR as f64;
        self.per_hour * hours + 2.0 * self.tolerance(from.value)
    }
}

/// The greatest power of three phases at a voltage, in kW.
fn max_power_kw(volts: f64) -> f64 {
    3.0 * volts * MAX_AMPERES / 1000.0
}
