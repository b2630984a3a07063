//! Every bit of an image flipped, one at a time: refused, or harmless for a reason that is said.

use acuvim_firmware_registry::{Sample, hex};
use sha2::{Digest as _, Sha256};

use crate::check;

fn flipped(good: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut image = good.to_vec();
    image[at] ^= 1 << bit;
    image
}

/// With an appended hash no flip gets through: the hash is over everything before it, and what it
/// does not cover, itself and the flag that announces it, is checked by itself.
#[test]
fn of_an_image_with_a_hash_every_flip_is_refused() {
    let good = Sample::application("1.2.0", 3000).bytes();
    check(&good).expect("good");
    for at in 0..good.len() {
        for bit in 0..8 {
            let fault = check(&flipped(&good, at, bit)).expect_err("refused");
            assert!(!fault.to_string().is_empty(), "byte {at}, bit {bit}");
        }
    }
}

/// Also a flip whose hash was mended: what the image's own structure protects.
#[test]
fn where_the_hash_was_mended_the_structure_still_refuses_what_it_can() {
    let good = Sample::application("1.2.0", 3000).bytes();
    let end = good.len() - 32;
    let mut let_through = Vec::new();
    for at in 0..end {
        let mut image = flipped(&good, at, 3);
        let hash = Sha256::digest(&image[..end]);
        image[end..].copy_from_slice(&hash);
        if check(&image).is_ok() {
            let_through.push(at);
        }
    }
    // Bytes that the checksum does not cover, and that are good whatever they are: the header's flash
    // mode, speed, entry address and pin settings, load addresses, and the padding. Whoever mends the
    // hash made the image; against that there are signatures.
    assert!(let_through.iter().all(|at| is_unchecked(*at, &good)), "{let_through:?}");
}

/// Without an appended hash, a flip is let through only where nothing in the format protects a byte;
/// the upload says so as a warning, and the SHA-256 of the file still tells the two apart.
#[test]
fn of_an_image_without_a_hash_flips_pass_only_where_nothing_protects_a_byte() {
    let sample = Sample { hashed: false, ..Sample::application("1.2.0", 3000) };
    let good = sample.bytes();
    let whole = check(&good).expect("good");
    let mut through = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let image = flipped(&good, at, bit);
            let Ok(other) = check(&image) else { continue };
            // Another chip is told from the declared hardware's.
            let told = is_unchecked(at, &good) || other.chip != whole.chip;
            assert!(told, "byte {at}, bit {bit} went through");
            assert!(!other.hashed, "the upload warns");
            assert_ne!(other.sha256, whole.sha256, "the file's SHA-256 tells");
            assert_eq!(other.sha256, hex(&Sha256::digest(&image)));
            through += 1;
        }
    }
    assert!(through > 0, "a header has bytes that nothing protects");
}

/// Whether nothing in the format but the appended hash protects a byte for certain: the header's bytes
/// 2 to 11 and 14 to 22, the load addresses, and the padding before the checksum; and the lengths, of
/// which a changed one moves the checksum, whose eight bits tell but for one case in 256.
fn is_unchecked(at: usize, image: &[u8]) -> bool {
    if at < 24 {
        return (2..12).contains(&at) || (14..23).contains(&at);
    }
    let mut place = 24;
    for _ in 0..image[1] {
        if (place..place + 8).contains(&at) {
            return true;
        }
        let length = u32::from_le_bytes(image[place + 4..place + 8].try_into().unwrap());
        place += 8 + length as usize;
    }
    let checksum = place + 15 - place % 16;
    (place..checksum).contains(&at)
}
