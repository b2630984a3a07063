//! Generated secrets: long, random, and stored only as a hash.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};

/// A secret of 256 random bits in URL-safe base64, after a prefix that shows what it is for.
#[must_use]
pub fn new_secret(prefix: &str) -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The SHA-256 of a secret, in hex. A fast hash is enough for secrets that can't be guessed, and stays
/// cheap when a whole fleet reconnects. Passwords of people are hashed with argon2id instead.
#[must_use]
pub fn hash_secret(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_unique_and_hashes_are_sha256() {
        assert_ne!(new_secret("acv_"), new_secret("acv_"));
        assert_eq!(new_secret("acv_").len(), 4 + 43);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_secret("abc"), abc);
    }
}
