//! The clock of the machine.

use std::time::{SystemTime, UNIX_EPOCH};

use acuvim_wire::Micros;

/// The current time, as `received_at` of records.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}
