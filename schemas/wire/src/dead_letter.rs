//! Dead letters: messages and readings that could not be used, kept with the reason to be corrected and
//! replayed.

use bytes::Bytes;

/// Why a message, or one reading of it, could not be used. The names are part of the API and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The payload is empty.
    Empty,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Not JSON, or not an object (or lines of objects).
    NotJson,
    /// Neither `ts`, nor `boot` and `uptime_ms`.
    NoTs,
    /// `ts` is not a time: without an offset, not a date of the calendar, or of another type.
    BadTs,
    /// `ts` is ahead of the arrival by more than the limit.
    TsInFuture,
    /// `ts` is before 2020, when no logger of this kind existed.
    TsBefore2020,
    /// Older than the retention of its table.
    Expired,
    /// The device had no clock yet. Replayed once a heartbeat tells when the device booted.
    ClockUnset,
    /// The payload has another device id than the topic.
    IdMismatch,
    /// The topic, or the payload of a registration, has no valid device id.
    BadDeviceId,
    /// A field has the wrong type; the detail names it.
    WrongType,
    /// The payload is over the size limit.
    TooLarge,
    /// Too many readings in one message.
    TooManyItems,
    /// Too many fields in one reading.
    TooManyFields,
    /// A value is nested too deep.
    TooDeep,
    /// A reading of the device with the same `ts` and other values is stored already; the detail names the
    /// fields.
    SameTs,
    /// The device is over its daily limit; what follows on that day is dropped.
    DailyLimit,
    /// The log refuses the record for good.
    RefusedByLog,
    /// A record in the uplink topic that was not written by this system.
    BadRecord,
}

impl Reason {
    /// Every reason, in the order of the protocol document.
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

/// A dead letter as the decoder makes it. Its row in `dead_letters` also has the position and headers of the
/// record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why it could not be used.
    pub reason: Reason,
    /// The field or the place of the fault, if there is one.
    pub detail: Option<String>,
    /// Index of the item within its payload; 0 if the message has only one.
    pub item: i32,
    /// The bytes of the message or of the one item.
    pub payload: Bytes,
    /// Length of what was sent, which is more than `payload` has if that was cut.
    pub length: u64,
    /// SHA-256 of what was sent, if `payload` was cut.
    pub sha256: Option<String>,
}

impl DeadLetter {
    /// A dead letter that keeps all bytes.
    #[must_use]
    pub fn whole(reason: Reason, detail: Option<String>, item: i32, payload: Bytes) -> Self {
        let length = payload.len() as u64;
        Self { reason, detail, item, payload, length, sha256: None }
    }
}

#[cfg(test)]
mod tests;
