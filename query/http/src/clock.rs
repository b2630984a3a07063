//! The time as the API knows it.

use chrono::{DateTime, Utc};

/// This moment, to the millisecond: so do answers show times, and every database keeps that much.
pub(crate) fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
}
