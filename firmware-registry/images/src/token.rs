//! Tokens in download URLs, each valid for one device and one version until it expires.
//!
//! Tokens are signed rather than stored: issuing one to each of a thousand devices costs no write, and
//! every process can verify them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use subtle::ConstantTimeEq as _;

use crate::error::{Error, ErrorKind};

/// Length of the signature. 128 bits are enough here, and the URL must fit into a small MQTT packet.
const MAC_BYTES: usize = 16;

/// Longer tokens are refused unread.
const MAX_LENGTH: usize = 128;

/// The key that signs tokens.
pub struct TokenKey(hmac::Key);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    /// Derives the key from a secret of the server, which may serve other purposes too.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        // A key of its own for this purpose: a signature made for another one is no token.
        let own = hmac::sign(&root, b"acuvim firmware download");
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    fn sign(&self, device_id: &str, version: &str, rest: &str) -> Vec<u8> {
        // Separated by a byte that none of the parts can contain, so that no two triples are the same text.
        let text = format!("{device_id}\0{version}\0{rest}");
        let mac = hmac::sign(&self.0, text.as_bytes());
        mac.as_ref().iter().take(MAC_BYTES).copied().collect()
    }

    /// Issues a token for a device and a version.
    ///
    /// # Errors
    /// If the system can't provide random bytes.
    pub fn make(
        &self,
        device_id: &str,
        version: &str,
        until: DateTime<Utc>,
    ) -> Result<String, Error> {
        let mut nonce = [0; 6];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Error::new(ErrorKind::Internal, "the system provides no random bytes"))?;
        let rest = format!("{:x}.{}", until.timestamp().max(0), URL_SAFE_NO_PAD.encode(nonce));
        let mac = URL_SAFE_NO_PAD.encode(self.sign(device_id, version, &rest));
        Ok(format!("{device_id}.{rest}.{mac}"))
    }

    /// The device that a token was issued to, if it is genuine, for this version, and not expired.
    #[must_use]
    pub fn check<'t>(&self, token: &'t str, version: &str, now: DateTime<Utc>) -> Option<&'t str> {
        // Anybody can send a token, of any length.
        if token.len() > MAX_LENGTH {
            return None;
        }
        let (signed, mac) = token.rsplit_once('.')?;
        let (device_id, rest) = signed.split_once('.')?;
        let (until, _) = rest.split_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        // In constant time, so that the duration does not reveal where the two differ.
        let same = bool::from(mac.ct_eq(self.sign(device_id, version, rest).as_slice()));
        let until = i64::from_str_radix(until, 16).ok()?;
        (same && now.timestamp() < until).then_some(device_id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a time")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_token_opens_one_version_to_one_device_for_a_time(
            device in "[A-Za-z0-9_-]{1,32}", version in "[0-9.a-z+-]{1,32}",
            other in "[0-9.a-z+-]{1,32}", until in 1_i64..4_000_000_000,
        ) {
            let key = TokenKey::of(b"secret");
            let token = key.make(&device, &version, at(until)).expect("a token");
            prop_assert!(token.len() <= MAX_LENGTH, "{token}");
            prop_assert_eq!(key.check(&token, &version, at(until - 1)), Some(&device[..]));
            prop_assert_eq!(key.check(&token, &version, at(until)), None);
            prop_assert_eq!(key.check(&token, &other, at(0)).is_some(), other == version);
        }

        /// The parts of a token are not secret, so all of them have to be signed.
        #[test]
        fn a_token_with_another_device_or_expiry_is_refused(
            device in "[A-Za-z0-9]{1,32}", until in 1_i64..4_000_000_000, later in 1_i64..1_000_000,
        ) {
            let key = TokenKey::of(b"secret");
            let token = key.make("ACV-1", "1.2.0", at(until)).expect("a token");
            let rest = token.strip_prefix("ACV-1.").expect("the device");
            let stolen = format!("{device}.{rest}");
            prop_assert_eq!(key.check(&stolen, "1.2.0", at(0)), None);
            let (_, rest) = rest.split_once('.').expect("the expiry");
            let longer = format!("ACV-1.{:x}.{rest}", until + later);
            prop_assert_eq!(key.check(&longer, "1.2.0", at(0)), None);
        }

        #[test]
        fn no_text_is_a_token(text in ".{0,140}", parts in "[0-9a-zA-Z.+_-]{0,140}") {
            let key = TokenKey::of(b"secret");
            for text in [text, parts] {
                prop_assert_eq!(key.check(&text, "1.2.0", at(0)), None);
            }
        }
    }

    #[test]
    fn a_token_that_expired_before_1970_is_never_valid() {
        let key = TokenKey::of(b"secret");
        let token = key.make("ACV-1", "1.2.0", at(-5)).expect("a token");
        assert_eq!(key.check(&token, "1.2.0", at(0)), None);
        assert_eq!(format!("{key:?}"), "TokenKey", "the key is in no log line");
    }

    #[test]
    fn a_token_is_valid_for_its_device_its_version_and_its_time_only() {
        let key = TokenKey::of(b"a secret of the server");
        let now = DateTime::from_timestamp(1_795_000_000, 0).expect("a time");
        let until = now + chrono::TimeDelta::days(7);
        let token = key.make("ACV-AABBCCDDEEFF", "1.2.0", until).expect("a token");
        assert_eq!(key.check(&token, "1.2.0", now), Some("ACV-AABBCCDDEEFF"));
        assert_eq!(key.check(&token, "1.2.1", now), None);
        assert_eq!(key.check(&token, "1.2.0", until), None);
        assert_eq!(TokenKey::of(b"another").check(&token, "1.2.0", now), None);
        assert_ne!(token, key.make("ACV-AABBCCDDEEFF", "1.2.0", until).expect("a token"));
        assert!(token.len() <= 64, "{token} is short enough for a small packet");
        for n in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[n] = if bytes[n] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(bytes).expect("text");
            // The last character of base64 has unused bits.
            if n + 1 < token.len() {
                assert_eq!(key.check(&other, "1.2.0", now), None, "{other}");
            }
        }
        for none in ["", ".", "...", "a.b.c.d", &"x".repeat(500)] {
            assert_eq!(key.check(none, "1.2.0", now), None);
        }
    }
}
