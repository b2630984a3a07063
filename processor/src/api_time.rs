//! Times as the API and control have them: truncated to the millisecond.

use acuvim_wire::{Micros, time};
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};

/// A time in microseconds as control stores it.
pub(crate) fn api_time(at: Micros) -> DateTime<Utc> {
    let at = time::to_datetime(at).unwrap_or_default();
    at.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(at)
}

/// The current time as control stores it.
pub(crate) fn api_now() -> DateTime<Utc> {
    api_time(Utc::now().timestamp_micros())
}
