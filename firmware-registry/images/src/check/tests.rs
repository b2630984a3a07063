//! The check at the edges of the format: sizes, paddings, segments, descriptors.

use proptest::prelude::*;

use super::*;
use crate::sample::Sample;

fn check_in(slot: u64, bytes: &[u8]) -> Result<Image, ImageError> {
    let mut check = ImageCheck::new(slot);
    check.update(bytes)?;
    check.finish()
}

/// An application without appended hash, whose first segment has so many words.
fn of_words(words: usize) -> Sample {
    Sample {
        segments: vec![(0x3F40_0020, words)],
        hashed: false,
        ..Sample::application("1.2.0", 4096)
    }
}

#[test]
fn an_image_that_fills_its_slot_fits_and_one_byte_more_does_not() {
    for hashed in [true, false] {
        let bytes = Sample { hashed, ..of_words(100) }.bytes();
        let size = bytes.len() as u64;
        assert_eq!(check_in(size, &bytes).expect("it fits").size, size);
        assert_eq!(check_in(size - 1, &bytes), Err(ImageError::TooLarge { slot: size - 1 }));
    }
}

/// An upload of a gigabyte ends with the header of its first segment, and not behind it.
#[test]
fn a_segment_that_can_not_fit_is_refused_before_its_data_comes() {
    let bytes = of_words(1000).bytes();
    let mut check = ImageCheck::new(4000);
    assert_eq!(check.update(&bytes[..31]), Ok(()));
    assert_eq!(check.update(&bytes[31..32]), Err(ImageError::TooLarge { slot: 4000 }));
}

#[test]
fn the_longest_segment_is_just_under_16_mib() {
    let mut bytes = of_words(100).bytes();
    bytes.truncate(32);
    for (length, good) in [((16 << 20) - 4, true), (16 << 20, false), ((16 << 20) - 8, true)] {
        bytes[28..32].copy_from_slice(&u32::to_le_bytes(length));
        let refused = ImageError::SegmentLength { index: 0, length };
        let want = if good { Ok(()) } else { Err(refused) };
        assert_eq!(ImageCheck::new(u64::MAX / 2).update(&bytes), want, "{length}");
    }
}

/// The checksum is the last byte of a block of 16: behind 0, 4, 8 or 12 bytes of the block.
#[test]
fn the_checksum_is_found_behind_every_length_of_padding() {
    for words in 64..72 {
        let good = of_words(words).bytes();
        assert_eq!(good.len() % 16, 0);
        check_in(1 << 20, &good).expect("good");
        let mut bad = good.clone();
        let last = bad.len() - 1;
        bad[last] ^= 0x10;
        let fault = ImageError::Checksum { stored: bad[last], computed: good[last] };
        assert_eq!(check_in(1 << 20, &bad), Err(fault), "{words} words");
        assert!(
            matches!(check_in(1 << 20, &good[..last]), Err(ImageError::Truncated { .. })),
            "{words} words without the checksum"
        );
    }
}

#[test]
fn one_to_sixteen_segments_are_taken_and_some_may_be_empty() {
    for count in [1, 2, 15, 16] {
        for empty in [0, count - 1] {
            let mut segments = vec![(0x400D_0020, 80); count];
            segments[empty].1 = 0;
            let sample = Sample { segments, version: None, ..of_words(0) };
            let checked = check_in(1 << 20, &sample.bytes());
            assert!(checked.is_ok(), "{count} segments, {empty} is empty: {checked:?}");
        }
    }
}

#[test]
fn an_image_that_ends_early_says_where() {
    let bytes = Sample { hashed: true, ..of_words(67) }.bytes();
    let data = 32 + 67 * 4;
    for (length, within) in [
        (1, "the header"),
        (23, "the header"),
        (24, "a segment's header"),
        (31, "a segment's header"),
        (32, "a segment"),
        (data - 1, "a segment"),
        (data, "the padding before the checksum"),
        (bytes.len() - 33, "the padding before the checksum"),
        (bytes.len() - 32, "the appended hash"),
        (bytes.len() - 1, "the appended hash"),
    ] {
        let truncated = ImageError::Truncated { have: length as u64, within };
        assert_eq!(check_in(1 << 20, &bytes[..length]), Err(truncated));
    }
    assert_eq!(ImageCheck::new(1 << 20).finish(), Err(ImageError::Empty));
}

/// A hash that no flag announces could be anything, and a flag without a hash is an incomplete file.
#[test]
fn the_flag_and_the_appended_hash_belong_together() {
    let plain = of_words(100).bytes();
    let mut longer = plain.clone();
    longer.extend([0; 32]);
    assert_eq!(check_in(1 << 20, &longer), Err(ImageError::Trailing(plain.len() as u64)));
    let mut flagged = plain;
    flagged[23] = 1;
    assert!(matches!(check_in(1 << 20, &flagged), Err(ImageError::Truncated { .. })));
    flagged.extend(Sha256::digest(&flagged));
    let checked = check_in(1 << 20, &flagged).expect("good");
    assert!(checked.hashed);
    assert_eq!(checked.sha256, hex::encode(Sha256::digest(&flagged)), "of the whole file");
}

/// The beginning of a file, with these bytes in the field of the version.
fn head(version: &[u8]) -> Vec<u8> {
    let mut head = vec![0; DESCRIPTOR + DESCRIPTOR_BYTES];
    head[DESCRIPTOR..DESCRIPTOR + 4].copy_from_slice(&DESCRIPTOR_MAGIC.to_le_bytes());
    head[DESCRIPTOR + 0x10..][..version.len()].copy_from_slice(version);
    head
}

/// The text ends up in the database, on pages and in log lines.
#[test]
fn texts_of_a_descriptor_are_cut_at_their_field_and_have_no_control_characters() {
    let longest = "1.0.0-abcdefghijklmnopqrstuvwxyz";
    let fields: [(&[u8], &str); 6] = [
        (b"1.2.0", "1.2.0"),
        (b"1.2.0\0garbage", "1.2.0"),
        (longest.as_bytes(), longest),
        (b"", ""),
        (b"1.\x1b[31m2\r\n", "1.[31m2"),
        (b"1.\xff2", "1.\u{fffd}2"),
    ];
    for (field, text) in fields {
        let found = descriptor(&head(field)).expect("a descriptor");
        assert_eq!((found.version.as_str(), found.project.as_str()), (text, ""));
    }
    // The field has no terminator, and the project follows at once.
    let mut full = head(&[b'v'; 32]);
    full[DESCRIPTOR + 0x30..][..7].copy_from_slice(b"project");
    let found = descriptor(&full).expect("a descriptor");
    assert_eq!((found.version, found.project), ("v".repeat(32), "project".to_owned()));
}

#[test]
fn without_its_magic_or_its_last_byte_there_is_no_descriptor() {
    let good = head(b"1.2.0");
    assert!(descriptor(&good).is_some());
    assert_eq!(descriptor(&good[..good.len() - 1]), None);
    let mut other = good;
    other[DESCRIPTOR] ^= 1;
    assert_eq!(descriptor(&other), None);
}

proptest! {
    #[test]
    fn the_sum_of_eight_bytes_at_a_time_is_that_of_each(
        bytes in prop::collection::vec(any::<u8>(), 0..70),
    ) {
        prop_assert_eq!(xor(&bytes), bytes.iter().fold(0, |sum, byte| sum ^ byte));
    }

    /// What an error says does not depend on how the upload was split.
    #[test]
    fn a_damaged_file_is_refused_alike_however_it_comes_in(
        words in 0_usize..200, at in any::<prop::sample::Index>(), byte in any::<u8>(),
        pieces in prop::collection::vec(1_usize..300, 1..20),
    ) {
        let mut bytes = of_words(words).bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut check = ImageCheck::new(1 << 20);
        let (mut rest, mut sizes) = (&bytes[..], pieces.iter().cycle());
        let mut result = Ok(());
        while let (true, false) = (result.is_ok(), rest.is_empty()) {
            let size = sizes.next().map_or(1, |size| (*size).min(rest.len()));
            let (piece, later) = rest.split_at(size);
            (result, rest) = (check.update(piece), later);
        }
        let result = result.and_then(|()| check.finish());
        prop_assert_eq!(result, check_in(1 << 20, &bytes));
    }
}
