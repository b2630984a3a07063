//! Sample images for demos, benchmarks and tests: valid in every check, but not runnable.

use acuvim_rollout::Chip;
use sha2::{Digest as _, Sha256};

/// The contents of a sample image.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The chip that it claims to run on.
    pub chip: Chip,
    /// The version in its descriptor, or `None` for an image without a descriptor.
    pub version: Option<String>,
    /// The load address of each segment, and its length in words of four bytes.
    pub segments: Vec<(u32, usize)>,
    /// Whether the file ends with a SHA-256 of itself.
    pub hashed: bool,
    /// Seeds the content, so that two samples differ.
    pub seed: u8,
}

impl Sample {
    /// An application of about this many bytes.
    #[must_use]
    pub fn application(version: &str, bytes: usize) -> Self {
        let words = bytes.saturating_sub(256) / 4;
        Self {
            chip: Chip::Esp32,
            version: Some(version.to_owned()),
            segments: vec![
                (0x3F40_0020, (words / 4).max(64)),
                (0x3FFB_0000, words / 8),
                (0x400D_0020, words - words / 4 - words / 8),
            ],
            hashed: true,
            seed: version.bytes().fold(7, u8::wrapping_add),
        }
    }

    /// The bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut image = vec![0_u8; 24];
        let count = u8::try_from(self.segments.len()).unwrap_or(u8::MAX);
        let id = self.chip.id().to_le_bytes();
        let set = [(0, 0xE9), (1, count), (2, 2), (3, 0x2F), (12, id[0]), (13, id[1])];
        set.into_iter().chain([(23, u8::from(self.hashed))]).for_each(|(at, byte)| {
            if let Some(target) = image.get_mut(at) {
                *target = byte;
            }
        });
        image.splice(4..8, 0x4008_1000_u32.to_le_bytes());
        let mut sum = 0xEF_u8;
        for (n, (address, words)) in self.segments.iter().enumerate() {
            let length = u32::try_from(words * 4).unwrap_or(u32::MAX);
            image.extend(address.to_le_bytes());
            image.extend(length.to_le_bytes());
            let mut data = self.data(n, words * 4);
            if let (0, Some(version)) = (n, &self.version) {
                describe(&mut data, version);
            }
            sum = data.iter().fold(sum, |sum, byte| sum ^ byte);
            image.extend(data);
        }
        image.resize(image.len() + 15 - image.len() % 16, 0);
        image.push(sum);
        if self.hashed {
            let hash = Sha256::digest(&image);
            image.extend(hash);
        }
        image
    }

    fn data(&self, segment: usize, length: usize) -> Vec<u8> {
        let mut state = u32::from(self.seed) << 8 | u32::try_from(segment).unwrap_or(0) | 1 << 20;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24).to_le_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }
}

/// Writes a descriptor at the beginning of a segment.
fn describe(data: &mut [u8], version: &str) {
    let mut put = |at: usize, bytes: &[u8]| {
        data.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, &[0; 256]);
    put(0, &0xABCD_5432_u32.to_le_bytes());
    put(0x10, version.as_bytes());
    put(0x30, b"acuvim-logger");
    put(0x50, b"12:00:00");
    put(0x60, b"May  1 2026");
    put(0x70, b"v5.3.1");
}
