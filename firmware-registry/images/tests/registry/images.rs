//! The check of images: valid ones, and each error.

use acuvim_firmware_registry::{ImageError, Sample};
use acuvim_rollout::Chip;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::{SLOT, check, check_in};

fn plain() -> Sample {
    Sample { hashed: false, ..Sample::application("1.2.0", 8192) }
}

#[test]
fn a_valid_image_is_described() {
    for chip in Chip::ALL {
        let base = Sample::application("1.2.0", 8192);
        let sample = Sample { chip, ..base };
        let bytes = sample.bytes();
        let image = check(&bytes).expect("good");
        assert_eq!((image.chip, image.size, image.hashed), (chip, bytes.len() as u64, true));
        assert_eq!(image.sha256, hex::encode(Sha256::digest(&bytes)));
        let about = image.descriptor.expect("a descriptor");
        assert_eq!((about.version.as_str(), about.project.as_str()), ("1.2.0", "acuvim-logger"));
        assert_eq!((about.date.as_str(), about.time.as_str()), ("May  1 2026", "12:00:00"));
        assert_eq!(about.idf_version, "v5.3.1");
    }
    assert!(!check(&plain().bytes()).expect("good").hashed);
}

#[test]
fn each_error_is_told_apart() {
    let good = Sample::application("1.2.0", 8192).bytes();
    let with = |at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        check(&image).expect_err("refused")
    };
    assert_eq!(check(&[]), Err(ImageError::Empty));
    assert_eq!(with(0, &[0x7F]), ImageError::Magic(0x7F), "an ELF, or anything else");
    assert_eq!(with(1, &[0]), ImageError::SegmentCount(0));
    assert_eq!(with(1, &[17]), ImageError::SegmentCount(17));
    assert_eq!(with(12, &[12, 0]), ImageError::UnknownChip(12));
    assert_eq!(with(12, &[0, 1]), ImageError::UnknownChip(256));
    assert_eq!(with(23, &[2]), ImageError::HashFlag(2));
    let odd = ImageError::SegmentLength { index: 0, length: 3 };
    assert_eq!(with(28, &3_u32.to_le_bytes()), odd);
    // A length that would overflow 32-bit arithmetic.
    let longest = u32::MAX - 3;
    assert_eq!(
        with(28, &longest.to_le_bytes()),
        ImageError::SegmentLength { index: 0, length: longest }
    );
    let larger = (16_u32 << 20) - 4;
    assert_eq!(with(28, &larger.to_le_bytes()), ImageError::TooLarge { slot: SLOT });
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(check(&longer), Err(ImageError::Trailing(good.len() as u64)));
    let last = good.len() - 1;
    assert_eq!(with(last, &[good[last] ^ 1]), ImageError::AppendedHash);
    let sum = good.len() - 33;
    let fault = ImageError::Checksum { stored: good[sum] ^ 1, computed: good[sum] };
    assert_eq!(with(sum, &[good[sum] ^ 1]), fault);
    let large = Sample::application("1.2.0", 2_000_000).bytes();
    assert_eq!(check(&large), Err(ImageError::TooLarge { slot: SLOT }));
}

#[test]
fn a_bootloader_is_not_an_application() {
    // Like ESP-IDF's: three segments in RAM, no descriptor.
    let bootloader = Sample {
        version: None,
        segments: vec![(0x3FFF_0030, 700), (0x4007_8000, 4000), (0x4008_0400, 900)],
        ..Sample::application("1.2.0", 4096)
    };
    assert_eq!(check(&bootloader.bytes()), Err(ImageError::NotAnApplication));
    // An application without a descriptor has segments in flash.
    let old = Sample { version: None, ..Sample::application("1.2.0", 8192) };
    assert!(check(&old.bytes()).expect("good").descriptor.is_none());
}

#[test]
fn an_image_that_ends_early_is_incomplete() {
    let good = Sample::application("1.2.0", 2048).bytes();
    for length in 1..good.len() {
        match check(&good[..length]) {
            Err(ImageError::Truncated { have, .. }) => assert_eq!(have, length as u64),
            other => panic!("{length} bytes: {other:?}"),
        }
    }
}

proptest! {
    /// The result does not depend on how the bytes are split, and nothing panics.
    #[test]
    fn pieces_change_nothing(
        segments in prop::collection::vec((any::<u32>(), 0_usize..600), 1..5),
        hashed in any::<bool>(),
        seed in any::<u8>(),
        piece in 1_usize..900,
        cut in any::<prop::sample::Index>(),
        changed in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let sample = Sample { segments, hashed, seed, ..Sample::application("1.2.0", 4096) };
        let mut bytes = sample.bytes();
        if let Some((at, byte)) = changed {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = &bytes[..=cut.index(bytes.len())];
        prop_assert_eq!(check_in(bytes, piece), check(bytes));
    }

    /// Arbitrary bytes give a result, not a panic.
    #[test]
    fn any_bytes_are_answered(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), magic in any::<bool>()) {
        if let (true, Some(first)) = (magic, bytes.first_mut()) {
            *first = 0xE9;
        }
        let _ = check(&bytes);
    }
}
