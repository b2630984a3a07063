//! The check of an ESP32 image while its bytes come in, in one pass: only the header and the
//! application descriptor are kept.
//!
//! Sources: ESP-IDF's `esp_app_format.h` and `esp_image_format.c`; docs/FIRMWARE.md shows the layout.

use acuvim_rollout::Chip;
use sha2::{Digest as _, Sha256};

use crate::{
    flash::is_in_flash,
    image::{Descriptor, Image, ImageError},
};

const HEADER_BYTES: usize = 24;
const SEGMENT_HEADER_BYTES: usize = 8;
/// The first byte of every image.
const MAGIC: u8 = 0xE9;
/// The checksum of no bytes at all.
const CHECKSUM_SEED: u8 = 0xEF;
const MAX_SEGMENTS: u8 = 16;
/// Segments are shorter than this.
const SEGMENT_LIMIT: u32 = 16 << 20;
/// Where the application descriptor begins: after the header and the first segment's header.
const DESCRIPTOR: usize = 0x20;
const DESCRIPTOR_BYTES: usize = 256;
const DESCRIPTOR_MAGIC: u32 = 0xABCD_5432;
const HASH_BYTES: usize = 32;

/// The part of the image that the next bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    SegmentHeader,
    /// The data of a segment; with the number of bytes still to come.
    Data(u32),
    /// Padding and, as its last byte, the checksum; with the number of bytes still to come.
    Padding(u64),
    Hash,
    End,
}

impl Part {
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

/// The check of an image whose bytes are still coming in.
#[derive(Debug, Clone)]
pub struct ImageCheck {
    slot: u64,
    part: Part,
    read: u64,
    hash: Sha256,
    /// The SHA-256 of everything before the appended one.
    own_hash: Option<[u8; HASH_BYTES]>,
    /// The bytes so far of a header or hash that is still incomplete.
    partial: Vec<u8>,
    /// The beginning of the file, up to the end of the descriptor.
    head: Vec<u8>,
    chip: Chip,
    hashed: bool,
    segments: u8,
    segment: u8,
    in_flash: bool,
    checksum: u8,
}

impl ImageCheck {
    /// Begins the check of an image that must fit into a slot of this many bytes.
    #[must_use]
    pub fn new(slot: u64) -> Self {
        Self {
            slot,
            part: Part::Header,
            read: 0,
            hash: Sha256::new(),
            own_hash: None,
            partial: Vec::with_capacity(HASH_BYTES),
            head: Vec::with_capacity(DESCRIPTOR + DESCRIPTOR_BYTES),
            chip: Chip::Esp32,
            hashed: false,
            segments: 0,
            segment: 0,
            in_flash: false,
            checksum: CHECKSUM_SEED,
        }
    }

    /// Checks the next bytes of the file.
    ///
    /// # Errors
    /// As soon as something is wrong with the image.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<(), ImageError> {
        // The only bytes that are needed after they were hashed; an image can be as large as its slot.
        let room = (DESCRIPTOR + DESCRIPTOR_BYTES).saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(room));
        while !bytes.is_empty() {
            let taken = self.consume(bytes)?;
            let (now, later) = bytes.split_at(taken.min(bytes.len()));
            // Before the part is finished: the appended hash covers the checksum, which ends its part.
            self.hash.update(now);
            self.read += now.len() as u64;
            // After each piece and not at the end, so that an endless upload is cut off.
            if self.read > self.slot {
                return Err(ImageError::TooLarge { slot: self.slot });
            }
            self.finish_part()?;
            bytes = later;
        }
        Ok(())
    }

    /// Consumes at least one byte of the current part, and returns how many it consumed.
    fn consume(&mut self, bytes: &[u8]) -> Result<usize, ImageError> {
        match self.part {
            Part::Header => {
                if let (0, Some(first)) = (self.read, bytes.first())
                    && *first != MAGIC
                {
                    return Err(ImageError::Magic(*first));
                }
                Ok(self.gather(bytes, HEADER_BYTES))
            }
            Part::SegmentHeader => Ok(self.gather(bytes, SEGMENT_HEADER_BYTES)),
            Part::Hash => Ok(self.gather(bytes, HASH_BYTES)),
            Part::Data(left) => {
                let now = bytes.len().min(left as usize);
                self.checksum ^= xor(bytes.get(..now).unwrap_or(bytes));
                self.part = Part::Data(left - u32::try_from(now).unwrap_or(left));
                Ok(now)
            }
            Part::Padding(left) => {
                let now = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - now as u64;
                if let (0, Some(stored)) = (left, bytes.get(now.saturating_sub(1)))
                    && *stored != self.checksum
                {
                    return Err(ImageError::Checksum { stored: *stored, computed: self.checksum });
                }
                self.part = Part::Padding(left);
                Ok(now)
            }
            Part::End => Err(ImageError::Trailing(self.read)),
        }
    }

    fn gather(&mut self, bytes: &[u8], whole: usize) -> usize {
        let now = bytes.len().min(whole - self.partial.len());
        self.partial.extend(bytes.iter().take(now));
        now
    }

    /// Goes on to the next part if the current one is complete.
    fn finish_part(&mut self) -> Result<(), ImageError> {
        match self.part {
            Part::Header if self.partial.len() == HEADER_BYTES => self.header()?,
            Part::SegmentHeader if self.partial.len() == SEGMENT_HEADER_BYTES => {
                self.segment_header()?;
            }
            Part::Hash if self.partial.len() == HASH_BYTES => {
                if self.own_hash.as_ref().is_none_or(|own| *own != self.partial[..]) {
                    return Err(ImageError::AppendedHash);
                }
                self.part = Part::End;
            }
            _ => {}
        }
        // Not in the match above: a segment of no bytes ends with its header.
        if self.part == Part::Data(0) {
            self.segment += 1;
            self.part = match self.segment < self.segments {
                true => Part::SegmentHeader,
                // The checksum is the last byte of a block of 16 bytes.
                false => Part::Padding(16 - self.read % 16),
            };
        }
        if self.part == Part::Padding(0) {
            self.own_hash = Some(self.hash.clone().finalize().into());
            self.part = if self.hashed { Part::Hash } else { Part::End };
        }
        Ok(())
    }

    fn header(&mut self) -> Result<(), ImageError> {
        let byte = |at: usize| self.partial.get(at).copied().unwrap_or_default();
        let segments = byte(1);
        if segments == 0 || segments > MAX_SEGMENTS {
            return Err(ImageError::SegmentCount(segments));
        }
        let id = u16::from_le_bytes([byte(12), byte(13)]);
        let flag = byte(23);
        self.chip = Chip::of_id(id).ok_or(ImageError::UnknownChip(id))?;
        self.hashed = match flag {
            0 => false,
            1 => true,
            other => return Err(ImageError::HashFlag(other)),
        };
        self.segments = segments;
        self.partial.clear();
        self.part = Part::SegmentHeader;
        Ok(())
    }

    fn segment_header(&mut self) -> Result<(), ImageError> {
        let (address, length) = (word(&self.partial, 0), word(&self.partial, 4));
        if length % 4 != 0 || length >= SEGMENT_LIMIT {
            return Err(ImageError::SegmentLength { index: self.segment, length });
        }
        // In 64 bits: the length in the header is not to be trusted.
        if self.read + u64::from(length) > self.slot {
            return Err(ImageError::TooLarge { slot: self.slot });
        }
        self.in_flash |= is_in_flash(self.chip, address);
        self.partial.clear();
        self.part = Part::Data(length);
        Ok(())
    }

    /// Ends the check: the file has no more bytes.
    ///
    /// # Errors
    /// If the image is incomplete, or is not an application.
    pub fn finish(self) -> Result<Image, ImageError> {
        if self.read == 0 {
            return Err(ImageError::Empty);
        }
        if self.part != Part::End {
            return Err(ImageError::Truncated { have: self.read, within: self.part.name() });
        }
        let descriptor = descriptor(&self.head);
        // Images of old ESP-IDF versions have no descriptor, but every application runs from flash.
        if descriptor.is_none() && !self.in_flash {
            return Err(ImageError::NotAnApplication);
        }
        Ok(Image {
            chip: self.chip,
            size: self.read,
            sha256: hex::encode(self.hash.finalize()),
            hashed: self.hashed,
            descriptor,
        })
    }
}

/// XOR of all bytes, eight at a time.
fn xor(bytes: &[u8]) -> u8 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0_u64, |sum, word| sum ^ u64::from_le_bytes(*word));
    sum.to_le_bytes().iter().chain(rest).fold(0, |sum, byte| sum ^ byte)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

/// The application descriptor, if the beginning of the file has one.
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

#[cfg(test)]
mod tests;
