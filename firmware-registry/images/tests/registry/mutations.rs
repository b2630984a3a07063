//! Single bit flips: each is refused, unless nothing in the format protects the byte.

use acuvim_firmware_registry::Sample;
use sha2::{Digest as _, Sha256};

use crate::check;

fn flipped(good: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut image = good.to_vec();
    image[at] ^= 1 << bit;
    image
}

/// With an appended hash every flip is detected: the hash covers everything before it, and a flip in
/// the hash itself or in the flag that announces it is detected too.
#[test]
fn every_flip_in_an_image_with_a_hash_is_refused() {
    let good = Sample::application("1.2.0", 3000).bytes();
    check(&good).expect("good");
    for at in 0..good.len() {
        for bit in 0..8 {
            let error = check(&flipped(&good, at, bit)).expect_err("refused");
            assert!(!error.to_string().is_empty(), "byte {at}, bit {bit}");
        }
    }
}

/// A flip with a recomputed hash is still refused where the structure of the image protects the byte.
#[test]
fn with_a_recomputed_hash_the_structure_still_protects_most_bytes() {
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
    // The checksum does not cover the header's flash mode, speed, entry address and pin settings, the
    // load addresses and the padding, and any value of them is valid. Whoever can recompute the hash
    // can build any image; signatures are what protects against that.
    assert!(let_through.iter().all(|at| is_unchecked(*at, &good)), "{let_through:?}");
}

/// Without an appended hash, flips pass only where nothing in the format protects the byte. The upload
/// warns about such images, and the SHA-256 of the file still differs.
#[test]
fn flips_in_an_image_without_a_hash_pass_only_in_unprotected_bytes() {
    let sample = Sample { hashed: false, ..Sample::application("1.2.0", 3000) };
    let good = sample.bytes();
    let whole = check(&good).expect("good");
    let mut through = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let image = flipped(&good, at, bit);
            let Ok(other) = check(&image) else { continue };
            // A changed chip is detected against the hardware that the upload declares.
            let told = is_unchecked(at, &good) || other.chip != whole.chip;
            assert!(told, "byte {at}, bit {bit} went through");
            assert!(!other.hashed, "the upload warns");
            assert_ne!(other.sha256, whole.sha256, "the file's SHA-256 tells");
            assert_eq!(other.sha256, hex::encode(Sha256::digest(&image)));
            through += 1;
        }
    }
    assert!(through > 0, "a header has bytes that nothing protects");
}

/// Whether only the appended hash protects a byte for certain: the header's bytes 2 to 11 and 14 to 22,
/// the load addresses and the padding before the checksum. So are the segment lengths: a changed length
/// moves the checksum, and its eight bits match by chance in one case of 256.
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
