//! The ESP32 image format, checked while the bytes come in: one pass, nothing kept but the header
//! and the application's descriptor.
//!
//! Source: ESP-IDF's `esp_app_format.h` and `esp_image_format.c`; docs/FIRMWARE.md has the layout.

use sha2::{Digest as _, Sha256};

use crate::chip::Chip;

/// Bytes of the header.
const HEADER: usize = 24;
/// Bytes of a segment's header.
const SEGMENT: usize = 8;
/// The first byte of an image.
const MAGIC: u8 = 0xE9;
/// What the checksum begins with.
const SEED: u8 = 0xEF;
/// The most segments.
const SEGMENTS: u8 = 16;
/// A segment is shorter than this: 16 MiB.
const LONGEST_SEGMENT: u32 = 16 << 20;
/// Where the descriptor begins, and its bytes.
const DESCRIPTOR: usize = 0x20;
const DESCRIPTOR_BYTES: usize = 256;
const DESCRIPTOR_MAGIC: u32 = 0xABCD_5432;
/// Bytes of an appended SHA-256.
const HASH: usize = 32;

/// What is wrong with an image. Each is for the one who made or sent it to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is not one byte.
    #[error("the file is empty")]
    Empty,
    /// It does not begin as an image.
    #[error("it begins with 0x{0:02X}, not with 0xE9: this is no ESP32 image")]
    Magic(u8),
    /// The number of segments can't be.
    #[error("it says that it has {0} segments; 1 to 16 are possible")]
    SegmentCount(u8),
    /// The chip is none that is known.
    #[error(
        "it is for a chip with the id {0}, which is not known; known are ESP32 (0), S2 (2), C3 (5), S3 (9)"
    )]
    UnknownChip(u16),
    /// The flag of the appended hash is neither 0 nor 1.
    #[error("byte 23, which says whether a hash is appended, is {0}: 0 and 1 are possible")]
    HashFlag(u8),
    /// A segment's length can't be.
    #[error(
        "segment {index} says that it has {length} bytes: a multiple of 4 under 16 MiB is possible"
    )]
    SegmentLength {
        /// Which, from 0.
        index: u8,
        /// What it says.
        length: u32,
    },
    /// It is larger than the slot that it must fit into.
    #[error("it is larger than the slot of {slot} bytes (firmware.slot_bytes)")]
    TooLarge {
        /// Bytes of the slot.
        slot: u64,
    },
    /// It ends before its end.
    #[error("it ends after {have} bytes, inside {within}: it was cut short")]
    Truncated {
        /// Bytes that came.
        have: u64,
        /// What they end in.
        within: &'static str,
    },
    /// The sum over its segments is another.
    #[error("its checksum is 0x{said:02X}, and its segments make 0x{found:02X}: it is damaged")]
    Checksum {
        /// The byte in the image.
        said: u8,
        /// The sum.
        found: u8,
    },
    /// The appended SHA-256 is another.
    #[error("the SHA-256 at its end is not that of what stands before it: it is damaged")]
    AppendedHash,
    /// More bytes follow.
    #[error("bytes follow behind the image's end at {0}")]
    Trailing(u64),
    /// It has no application.
    #[error(
        "it is not an application: it has no descriptor, and no segment in flash; is it the bootloader?"
    )]
    NotAnApplication,
}

/// What an application says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Its version, as it was built.
    pub version: String,
    /// The project's name.
    pub project: String,
    /// The time of the build, as the compiler writes it.
    pub time: String,
    /// The day of the build.
    pub date: String,
    /// The ESP-IDF that it was built with.
    pub idf_version: String,
}

/// An image that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The chip that it is for.
    pub chip: Chip,
    /// Bytes.
    pub size: u64,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// Whether it carries a SHA-256 of its own.
    pub hashed: bool,
    /// What it says of itself; none if it has no descriptor.
    pub descriptor: Option<Descriptor>,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Header,
    SegmentHeader,
    /// So many bytes of a segment are to come.
    Data(u32),
    /// So many bytes are to come up to the checksum, which is the last of them.
    Padding(u64),
    Hash,
    End,
}

impl At {
    const fn name(self) -> &'static str {
        match self {
            Self::Header => "the header",
            Self::SegmentHeader => "a segment's header",
            Self::Data(_) => "a segment",
            Self::Padding(_) => "the padding before the checksum",
            Self::Hash => "the appended hash",
            Self::End => "its end",
        }
    }
}

/// The check of an image that is on its way.
#[derive(Debug, Clone)]
pub struct ImageCheck {
    slot: u64,
    at: At,
    read: u64,
    hash: Sha256,
    /// The hash up to the one that is appended.
    own_hash: Option<[u8; HASH]>,
    /// Bytes of a header or hash of which not all have come.
    part: Vec<u8>,
    /// The file's first bytes, up to the end of the descriptor.
    head: Vec<u8>,
    chip: Chip,
    hashed: bool,
    segments: u8,
    segment: u8,
    in_flash: bool,
    sum: u8,
}

impl ImageCheck {
    /// Begins the check of an image that must fit into a slot of so many bytes.
    #[must_use]
    pub fn new(slot: u64) -> Self {
        Self {
            slot,
            at: At::Header,
            read: 0,
            hash: Sha256::new(),
            own_hash: None,
            part: Vec::with_capacity(HASH),
            head: Vec::with_capacity(DESCRIPTOR + DESCRIPTOR_BYTES),
            chip: Chip::Esp32,
            hashed: false,
            segments: 0,
            segment: 0,
            in_flash: false,
            sum: SEED,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as something is wrong.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        let room = (DESCRIPTOR + DESCRIPTOR_BYTES).saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(room));
        while !bytes.is_empty() {
            let taken = self.step(bytes)?;
            let (now, later) = bytes.split_at(taken.min(bytes.len()));
            self.hash.update(now);
            self.read += now.len() as u64;
            if self.read > self.slot {
                return Err(Fault::TooLarge { slot: self.slot });
            }
            self.settle()?;
            bytes = later;
        }
        Ok(())
    }

    /// Reads some bytes, at least one; answers with how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self.at {
            At::Header => {
                if let (0, Some(first)) = (self.read, bytes.first())
                    && *first != MAGIC
                {
                    return Err(Fault::Magic(*first));
                }
                Ok(self.gather(bytes, HEADER))
            }
            At::SegmentHeader => Ok(self.gather(bytes, SEGMENT)),
            At::Hash => Ok(self.gather(bytes, HASH)),
            At::Data(left) => {
                let now = bytes.len().min(left as usize);
                self.sum ^= xor(bytes.get(..now).unwrap_or(bytes));
                self.at = At::Data(left - u32::try_from(now).unwrap_or(left));
                Ok(now)
            }
            At::Padding(left) => {
                let now = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - now as u64;
                if let (0, Some(said)) = (left, bytes.get(now.saturating_sub(1)))
                    && *said != self.sum
                {
                    return Err(Fault::Checksum { said: *said, found: self.sum });
                }
                self.at = At::Padding(left);
                Ok(now)
            }
            At::End => Err(Fault::Trailing(self.read)),
        }
    }

    fn gather(&mut self, bytes: &[u8], whole: usize) -> usize {
        let now = bytes.len().min(whole - self.part.len());
        self.part.extend(bytes.iter().take(now));
        now
    }

    /// Moves on where a part is complete.
    fn settle(&mut self) -> Result<(), Fault> {
        match self.at {
            At::Header if self.part.len() == HEADER => self.header()?,
            At::SegmentHeader if self.part.len() == SEGMENT => self.segment_header()?,
            At::Hash if self.part.len() == HASH => {
                if self.own_hash.as_ref().is_none_or(|own| *own != self.part[..]) {
                    return Err(Fault::AppendedHash);
                }
                self.at = At::End;
            }
            _ => {}
        }
        if self.at == At::Data(0) {
            self.segment += 1;
            self.at = match self.segment < self.segments {
                true => At::SegmentHeader,
                // The checksum is the last byte of a block of 16.
                false => At::Padding(16 - self.read % 16),
            };
        }
        if self.at == At::Padding(0) {
            self.own_hash = Some(self.hash.clone().finalize().into());
            self.at = if self.hashed { At::Hash } else { At::End };
        }
        Ok(())
    }

    fn header(&mut self) -> Result<(), Fault> {
        let byte = |at: usize| self.part.get(at).copied().unwrap_or_default();
        let segments = byte(1);
        if segments == 0 || segments > SEGMENTS {
            return Err(Fault::SegmentCount(segments));
        }
        let id = u16::from_le_bytes([byte(12), byte(13)]);
        let flag = byte(23);
        self.chip = Chip::of_id(id).ok_or(Fault::UnknownChip(id))?;
        self.hashed = match flag {
            0 => false,
            1 => true,
            other => return Err(Fault::HashFlag(other)),
        };
        self.segments = segments;
        self.part.clear();
        self.at = At::SegmentHeader;
        Ok(())
    }

    fn segment_header(&mut self) -> Result<(), Fault> {
        let (address, length) = (word(&self.part, 0), word(&self.part, 4));
        if length % 4 != 0 || length >= LONGEST_SEGMENT {
            return Err(Fault::SegmentLength { index: self.segment, length });
        }
        if self.read + u64::from(length) > self.slot {
            return Err(Fault::TooLarge { slot: self.slot });
        }
        self.in_flash |= self.chip.maps(address);
        self.part.clear();
        self.at = At::Data(length);
        Ok(())
    }

    /// Ends the check: nothing more comes.
    ///
    /// # Errors
    /// When something is missing.
    pub fn finish(self) -> Result<Image, Fault> {
        if self.read == 0 {
            return Err(Fault::Empty);
        }
        if self.at != At::End {
            return Err(Fault::Truncated { have: self.read, within: self.at.name() });
        }
        let descriptor = descriptor(&self.head);
        if descriptor.is_none() && !self.in_flash {
            return Err(Fault::NotAnApplication);
        }
        Ok(Image {
            chip: self.chip,
            size: self.read,
            sha256: hex(&self.hash.finalize()),
            hashed: self.hashed,
            descriptor,
        })
    }
}

/// The sum of bytes by XOR, eight at a time.
fn xor(bytes: &[u8]) -> u8 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0_u64, |sum, word| sum ^ u64::from_le_bytes(*word));
    sum.to_le_bytes().iter().chain(rest).fold(0, |sum, byte| sum ^ byte)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

/// Reads the descriptor out of a file's first bytes, if it is there.
fn descriptor(head: &[u8]) -> Option<Descriptor> {
    let bytes = head.get(DESCRIPTOR..DESCRIPTOR + DESCRIPTOR_BYTES)?;
    if word(bytes, 0) != DESCRIPTOR_MAGIC {
        return None;
    }
    let text = |from: usize, length: usize| {
        let field = bytes.get(from..from + length).unwrap_or_default();
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect::<String>()
    };
    Some(Descriptor {
        version: text(0x10, 32),
        project: text(0x30, 32),
        time: text(0x50, 16),
        date: text(0x60, 16),
        idf_version: text(0x70, 32),
    })
}

/// Bytes as hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |n: u8| DIGITS.get(usize::from(n & 15)).copied().unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
