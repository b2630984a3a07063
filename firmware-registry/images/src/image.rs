//! What a checked image is, and what can be wrong with one.

use acuvim_rollout::Chip;

/// What is wrong with an image file. Each is for whoever built or sent the file to correct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The first byte is not that of an image.
    #[error("the first byte is 0x{0:02X}, not 0xE9: this is not an ESP32 image")]
    Magic(u8),
    /// The header gives an impossible number of segments.
    #[error("the header gives {0} segments; valid are 1 to 16")]
    SegmentCount(u8),
    /// The header names an unknown chip.
    #[error("the chip id {0} is unknown; known are ESP32 (0), S2 (2), C3 (5), S3 (9)")]
    UnknownChip(u16),
    /// The flag for an appended hash is neither 0 nor 1.
    #[error("byte 23, the flag for an appended hash, is {0}; valid are 0 and 1")]
    HashFlag(u8),
    /// A segment has an impossible length.
    #[error("segment {index} has {length} bytes; valid is a multiple of 4 under 16 MiB")]
    SegmentLength {
        /// The segment, from 0.
        index: u8,
        /// The length in its header.
        length: u32,
    },
    /// The image does not fit into a device's slot.
    #[error("it is larger than the slot of {slot} bytes (firmware.slot_bytes)")]
    TooLarge {
        /// Bytes of the slot.
        slot: u64,
    },
    /// The file ends before the image does.
    #[error("it ends after {have} bytes, inside {within}: the file is incomplete")]
    Truncated {
        /// Bytes of the file.
        have: u64,
        /// The part of the image that is incomplete.
        within: &'static str,
    },
    /// The checksum does not match the segments.
    #[error(
        "the checksum is 0x{stored:02X}, but the segments add up to 0x{computed:02X}: the file is damaged"
    )]
    Checksum {
        /// The checksum in the file.
        stored: u8,
        /// The checksum of the segments.
        computed: u8,
    },
    /// The appended SHA-256 does not match.
    #[error("the SHA-256 at its end does not match the bytes before it: the file is damaged")]
    AppendedHash,
    /// The file goes on after the image's end.
    #[error("there are more bytes after the image's end at {0}")]
    Trailing(u64),
    /// The image is not an application.
    #[error(
        "it is not an application: it has neither a descriptor nor a segment in flash; \
         is it the bootloader?"
    )]
    NotAnApplication,
}

/// The application descriptor that ESP-IDF builds into an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// The version that it was built with.
    pub version: String,
    /// The name of the project.
    pub project: String,
    /// The time of the build, as the compiler writes it.
    pub time: String,
    /// The day of the build, as the compiler writes it.
    pub date: String,
    /// The version of ESP-IDF that it was built with.
    pub idf_version: String,
}

/// An image that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The chip that it runs on.
    pub chip: Chip,
    /// The size of the file, in bytes.
    pub size: u64,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// Whether the file ends with a SHA-256 of itself.
    pub hashed: bool,
    /// Its descriptor, if it has one.
    pub descriptor: Option<Descriptor>,
}
