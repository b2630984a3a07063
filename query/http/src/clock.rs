//! The time as the API knows it.

use chrono::{DateTime, Utc};

/// The current time to the millisecond, which answers show and every database keeps.
pub(crate) fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
}
