//! Telemetry payloads before they are decoded: their forms, limits, aliases for foreign keys, and repairs.

mod repair;
mod split;

pub use repair::Repair;
pub use split::{Items, item_of, items_of, split};

use std::collections::HashMap;

use crate::time::{DAY, Micros, SECOND};

/// By default, how far ahead of its arrival a reading may be and still count as current: normal clocks
/// differ by so much.
pub const MAX_AHEAD: Micros = 10 * SECOND;

/// Limits of a payload and of its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most readings in one message.
    pub max_items: usize,
    /// The most fields in one reading.
    pub max_fields: usize,
    /// The deepest nesting of an unknown field.
    pub max_depth: usize,
    /// How far `ts` may be ahead of `received_at`, in microseconds.
    pub max_future: Micros,
    /// How old a reading may be at `received_at`, in microseconds: the retention of the table.
    pub max_age: Micros,
    /// How far a reading may be ahead of `received_at` and still count as current. One further ahead is
    /// stored, but changes no state.
    pub max_ahead: Micros,
}

impl Limits {
    /// Whether a reading is so far ahead of its arrival that the device's clock must be wrong.
    #[must_use]
    pub const fn is_ahead(&self, ts: Micros, received_at: Micros) -> bool {
        ts > received_at.saturating_add(self.max_ahead)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_items: 500,
            max_fields: 512,
            max_depth: 32,
            max_future: DAY,
            max_age: 365 * DAY,
            max_ahead: MAX_AHEAD,
        }
    }
}

/// The column for a foreign key, such as `"Vllavg" = { column = "voltage_ll_avg_v", factor = 1.0 }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Alias {
    /// Index into [`crate::reading::READINGS`].
    pub column: usize,
    /// The factor that converts the device's unit to ours.
    pub factor: f64,
}

/// Columns by foreign key. Our own keys take precedence.
pub type Aliases = HashMap<String, Alias>;

#[cfg(test)]
mod tests;
