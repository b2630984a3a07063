//! Telemetry JSON into Arrow columns: messages, batches and JSON Lines, judged item by item.

mod decode;
mod item;
mod repair;
mod repeat;
mod rows;
mod split;

pub use decode::{Checker, Decoded, Decoder, MOST_UNKNOWN, Source, Unknown};
pub use repair::Repair;
pub use repeat::{differing, item_of, items_of, named};
pub use rows::{DeadLetterRows, RecordFacts};

use std::collections::HashMap;

use crate::time::{DAY, Micros, SECOND};

/// How far ahead of its arrival a reading may be, unless that is set: clocks differ by so much.
pub const MAX_AHEAD: Micros = 10 * SECOND;

/// What a payload may be, and what its times may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Readings in one message.
    pub max_items: usize,
    /// Fields in one reading.
    pub max_fields: usize,
    /// Nesting of an unknown field's value.
    pub max_depth: usize,
    /// How far ahead of `received_at` a device's clock may be, in microseconds.
    pub max_future: Micros,
    /// How old a reading may be at `received_at`, in microseconds: the table's retention.
    pub max_age: Micros,
    /// How far ahead of `received_at` a reading still counts as of the present: further ahead it is
    /// stored, and moves nothing.
    pub max_ahead: Micros,
}

impl Limits {
    /// Whether a reading is so far ahead of its arrival that its device's clock is wrong.
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

/// A foreign key's column and unit: `"Vllavg" = { column = "voltage_ll_avg_v", factor = 1.0 }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Alias {
    /// Index into [`crate::reading::READINGS`].
    pub column: usize,
    /// What the device's number is multiplied by.
    pub factor: f64,
}

/// Foreign keys by name. A key of ours can't be an alias: ours wins.
pub type Aliases = HashMap<String, Alias>;
