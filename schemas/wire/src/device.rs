//! The device id, the same from MQTT to SQL.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest device id, in bytes.
pub const MAX_DEVICE_ID: usize = 32;

/// A valid device id: 1 to 32 of `A-Z a-z 0-9 _ -`. Cheap to clone, because every row has one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Arc<str>);

/// The text is not a device id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a device id is 1 to 32 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidDeviceId;

impl DeviceId {
    /// Checks the form and keeps the text.
    ///
    /// # Errors
    /// [`InvalidDeviceId`] when the text is empty, too long, or has another character.
    pub fn parse(text: &str) -> Result<Self, InvalidDeviceId> {
        if is_device_id(text) { Ok(Self(text.into())) } else { Err(InvalidDeviceId) }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the text is a valid device id.
#[must_use]
pub fn is_device_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_DEVICE_ID
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The partition of a device: FNV-1a (64 bit) of its id, modulo the number of partitions.
///
/// Our own hash, because the default partitioners of librdkafka and Java differ, and a device must be
/// in the same partition on the embedded log and on Kafka.
#[must_use]
pub fn partition_of(device_id: &[u8], partitions: u32) -> u32 {
    let hash = device_id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // Not a partition of none: a log that is just being set up must not panic.
    u32::try_from(hash % u64::from(partitions.max(1))).unwrap_or(0)
}

impl TryFrom<String> for DeviceId {
    type Error = InvalidDeviceId;
    fn try_from(text: String) -> Result<Self, InvalidDeviceId> {
        Self::parse(&text)
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
