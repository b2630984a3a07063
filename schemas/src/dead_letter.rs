//! Dead letters: what could not be used, kept with the reason so that it can be mended and replayed.

use bytes::Bytes;

/// Why a message or one reading of it could not be used. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing in the payload.
    Empty,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Text that is not JSON, or JSON that is not the object (or lines of objects) asked for.
    NotJson,
    /// Neither `ts`, nor `boot` and `uptime_ms`.
    NoTs,
    /// A `ts` that is no time: no zone, no such day, not a number.
    BadTs,
    /// A clock ahead by more than the limit.
    TsInFuture,
    /// A clock before 2020.
    TsBefore2020,
    /// Older than the retention of its table.
    Expired,
    /// The device had no clock yet: waits for a heartbeat that tells the time of its boot.
    ClockUnset,
    /// The payload names another device than the topic.
    IdMismatch,
    /// The topic or the payload names no valid device.
    BadDeviceId,
    /// A field has a type it can't have; the detail names it.
    WrongType,
    /// More bytes than a payload may have.
    TooLarge,
    /// More readings in one message than allowed.
    TooManyItems,
    /// More fields in one reading than allowed.
    TooManyFields,
    /// Nested deeper than allowed.
    TooDeep,
    /// Another reading of its device is stored under its `ts` and says something else; the detail
    /// names the fields.
    SameTs,
    /// Its device has sent more than it may in a day; what comes behind it that day is dropped.
    DailyLimit,
    /// The log refuses the record for good.
    RefusedByLog,
    /// A record of the uplink topic that nobody of ours wrote.
    BadRecord,
}

impl Reason {
    /// Every reason there is.
    pub const ALL: [Self; 20] = [
        Self::Empty,
        Self::NotUtf8,
        Self::NotJson,
        Self::NoTs,
        Self::BadTs,
        Self::TsInFuture,
        Self::TsBefore2020,
        Self::Expired,
        Self::ClockUnset,
        Self::IdMismatch,
        Self::BadDeviceId,
        Self::WrongType,
        Self::TooLarge,
        Self::TooManyItems,
        Self::TooManyFields,
        Self::TooDeep,
        Self::SameTs,
        Self::DailyLimit,
        Self::RefusedByLog,
        Self::BadRecord,
    ];

    /// The name in `dead_letters.reason`, headers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NoTs => "no_ts",
            Self::BadTs => "bad_ts",
            Self::TsInFuture => "ts_in_future",
            Self::TsBefore2020 => "ts_before_2020",
            Self::Expired => "expired",
            Self::ClockUnset => "clock_unset",
            Self::IdMismatch => "id_mismatch",
            Self::BadDeviceId => "bad_device_id",
            Self::WrongType => "wrong_type",
            Self::TooLarge => "too_large",
            Self::TooManyItems => "too_many_items",
            Self::TooManyFields => "too_many_fields",
            Self::TooDeep => "too_deep",
            Self::SameTs => "same_ts",
            Self::DailyLimit => "daily_limit",
            Self::RefusedByLog => "refused_by_log",
            Self::BadRecord => "bad_record",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == name)
    }
}

/// What a decoder gives up: the row of `dead_letters` but for its record's position and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why.
    pub reason: Reason,
    /// The field or place at fault, where one can be named.
    pub detail: Option<String>,
    /// Index of the item within its payload; 0 for a message that is one.
    pub item: i32,
    /// The bytes of the message or of the one item.
    pub payload: Bytes,
    /// Length of what was sent; more than `payload` holds if that was cut.
    pub length: u64,
    /// SHA-256 of what was sent, where `payload` was cut.
    pub sha256: Option<String>,
}

impl DeadLetter {
    /// A dead letter that keeps all of the bytes.
    #[must_use]
    pub fn whole(reason: Reason, detail: Option<String>, item: i32, payload: Bytes) -> Self {
        let length = payload.len() as u64;
        Self { reason, detail, item, payload, length, sha256: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::parse("other"), None);
    }
}
