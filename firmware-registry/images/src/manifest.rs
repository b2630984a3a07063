//! Signed manifests: the properties of a release, signed by whoever builds the firmware.
//!
//! The signature is ed25519 (RFC 8032) over the bytes of the manifest's JSON. A device verifies these
//! bytes as it received them, so it needs no canonical form of JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind},
    image::Image,
};

/// The signed properties of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the firmware.
    pub version: String,
    /// The hardware that it is for, or `None` for every hardware with the chip.
    pub hardware: Option<String>,
    /// The chip that it runs on.
    pub chip: String,
    /// The size of the file, in bytes.
    pub size: u64,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// Grows with each release, so that a device can refuse a downgrade.
    pub sequence: i64,
    /// When it must no longer be installed, if ever.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A manifest and its signature, as they stand in the signature file beside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The manifest's JSON, byte for byte as it was signed.
    pub manifest: String,
    /// The signature over these bytes, in base64.
    pub signature: String,
}

const MAX_FILE_BYTES: usize = 8 << 10;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

impl Signed {
    /// Parses a signature file.
    ///
    /// # Errors
    /// If the text is not a signature file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_FILE_BYTES {
            return Err(invalid("the signature is larger than 8 KiB"));
        }
        serde_json::from_str(text).map_err(|e| {
            let expected = "the signature is not what `acuvim firmware sign` writes, \
                 {\"manifest\": \"...\", \"signature\": \"...\"}";
            Error::caused(ErrorKind::Invalid, expected, e)
        })
    }

    /// Signs a manifest.
    ///
    /// # Errors
    /// Never in practice: every manifest can be written as JSON.
    pub fn sign(manifest: &Manifest, key: &SigningKey) -> Result<Self, Error> {
        let manifest = serde_json::to_string(manifest)
            .map_err(|e| Error::caused(ErrorKind::Internal, "a manifest", e))?;
        let signature = STANDARD.encode(key.0.sign(manifest.as_bytes()));
        Ok(Self { manifest, signature })
    }

    /// The manifest, if any of the keys signed it.
    ///
    /// # Errors
    /// If none of the keys signed it, or if the signed text is not a manifest.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<Manifest, Error> {
        let signature = STANDARD.decode(&self.signature);
        let signature = signature
            .map_err(|e| Error::caused(ErrorKind::Invalid, "the signature is not base64", e))?;
        let signed = |key: &PublicKey| {
            UnparsedPublicKey::new(&ED25519, key.0).verify(self.manifest.as_bytes(), &signature)
        };
        // Any of several, so that a key can be replaced without a day on which nothing is valid.
        if !keys.iter().any(|key| signed(key).is_ok()) {
            return Err(invalid("none of firmware.public_keys has signed this manifest"));
        }
        // Parsed only now: nothing of a text that nobody has signed is looked at.
        serde_json::from_str(&self.manifest)
            .map_err(|e| Error::caused(ErrorKind::Invalid, "the signed text is not a manifest", e))
    }
}

impl Manifest {
    /// Checks that it describes this image, as this version, for this hardware, and has not expired.
    ///
    /// # Errors
    /// Names the property that differs.
    pub fn fits(
        &self,
        image: &Image,
        version: &str,
        hardware: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let differs = |what: &str, signed: &str, given: &str| {
            Err(invalid(format!("the signed {what} is `{signed}`, the uploaded one is `{given}`")))
        };
        if self.version != version {
            return differs("version", &self.version, version);
        }
        // Compared exactly: a manifest for all boards does not cover an upload for one, nor the other way
        // round.
        if self.hardware.as_deref() != hardware {
            let all = "(all)";
            return differs(
                "hardware",
                self.hardware.as_deref().unwrap_or(all),
                hardware.unwrap_or(all),
            );
        }
        if self.chip != image.chip.as_str() {
            return differs("chip", &self.chip, image.chip.as_str());
        }
        if self.size != image.size {
            return differs("size", &self.size.to_string(), &image.size.to_string());
        }
        if self.sha256 != image.sha256 {
            return differs("SHA-256", &self.sha256, &image.sha256);
        }
        match self.is_expired(now) {
            true => Err(invalid("the signed manifest has expired")),
            false => Ok(()),
        }
    }

    /// Whether it must no longer be installed.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// What an ed25519 SubjectPublicKeyInfo (RFC 8410, section 4) begins with; the 32 bytes of the key follow.
const PUBLIC_KEY_INFO: [u8; 12] =
    [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A private key, which signs manifests.
pub struct SigningKey(Ed25519KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// A public key, which verifies signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl SigningKey {
    /// Generates a key, and returns its PEM text with it.
    ///
    /// # Errors
    /// If the system can't provide random bytes.
    pub fn generate() -> Result<(Self, String), Error> {
        let random = ring::rand::SystemRandom::new();
        let der = Ed25519KeyPair::generate_pkcs8(&random)
            .map_err(|_| Error::new(ErrorKind::Internal, "the system provides no random bytes"))?;
        let body = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        );
        Ok((Self::from_pem(&pem)?, pem))
    }

    /// Parses the PEM of a PKCS#8 private key, as this program and `openssl genpkey` write it.
    ///
    /// # Errors
    /// If the text is not such a PEM.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let der = body(pem, "PRIVATE KEY")?;
        // OpenSSL writes PKCS#8 version 1, which has no public key to check against.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map(Self)
            .map_err(|e| invalid(format!("not an ed25519 key in PKCS#8: {e}")))
    }

    /// The public key that verifies its signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(self.0.public_key().as_ref()).for_each(|(to, from)| *to = *from);
        PublicKey(bytes)
    }
}

impl PublicKey {
    /// Parses 32 bytes in base64, or a PEM as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// If the text is neither.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bytes = match text.contains("-----BEGIN") {
            true => body(text, "PUBLIC KEY")?,
            false => STANDARD.decode(text.trim()).map_err(|e| {
                Error::caused(ErrorKind::Invalid, "a public key must be base64 or PEM", e)
            })?,
        };
        // Keys of other algorithms, such as X25519, can have the same length, and would verify nothing.
        let key = bytes.strip_prefix(&PUBLIC_KEY_INFO).unwrap_or(&bytes).try_into().ok();
        key.map(Self).ok_or_else(|| invalid("an ed25519 public key has 32 bytes"))
    }

    /// In base64, as `firmware.public_keys` takes it.
    #[must_use]
    pub fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }
}

/// The bytes between the lines `BEGIN` and `END` of a label.
fn body(pem: &str, label: &str) -> Result<Vec<u8>, Error> {
    let none = || invalid(format!("the PEM has no -----BEGIN {label}-----"));
    let begin = format!("-----BEGIN {label}-----");
    let (_, rest) = pem.split_once(&begin).ok_or_else(none)?;
    let (inside, _) = rest.split_once("-----END").ok_or_else(none)?;
    let inside: String = inside.split_whitespace().collect();
    STANDARD
        .decode(inside)
        .map_err(|e| Error::caused(ErrorKind::Invalid, "the body of the PEM is not base64", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::ImageCheck, sample::Sample};
    use acuvim_rollout::Chip;

    fn image() -> Image {
        let mut check = ImageCheck::new(1 << 20);
        check.update(&Sample::application("1.2.0", 4096).bytes()).expect("an image");
        check.finish().expect("whole")
    }

    fn manifest(image: &Image) -> Manifest {
        Manifest {
            version: "1.2.0".into(),
            hardware: Some("TTGO T-Call v1.4".into()),
            chip: image.chip.as_str().into(),
            size: image.size,
            sha256: image.sha256.clone(),
            sequence: 7,
            expires_at: DateTime::from_timestamp(1_800_000_000, 0),
        }
    }

    #[test]
    fn a_manifest_is_valid_for_what_was_signed_and_nothing_else() {
        let (image, now) = (image(), DateTime::from_timestamp(1_795_000_000, 0).expect("a time"));
        let signed = manifest(&image);
        let hardware = Some("TTGO T-Call v1.4");
        assert!(signed.fits(&image, "1.2.0", hardware, now).is_ok());
        assert!(signed.fits(&image, "1.2.1", hardware, now).is_err());
        assert!(signed.fits(&image, "1.2.0", None, now).is_err());
        assert!(signed.fits(&image, "1.2.0", hardware, signed.expires_at.expect("set")).is_err());
        let other = Image { sha256: "0".repeat(64), ..image.clone() };
        assert!(signed.fits(&other, "1.2.0", hardware, now).is_err());
        let other = Image { chip: Chip::Esp32S3, ..image };
        assert!(signed.fits(&other, "1.2.0", hardware, now).is_err());
    }

    #[test]
    fn only_a_signature_of_a_known_key_over_these_bytes_is_accepted() {
        let (key, pem) = SigningKey::generate().expect("a key");
        let (other, _) = SigningKey::generate().expect("a key");
        let manifest = manifest(&image());
        let signed = Signed::sign(&manifest, &key).expect("signed");
        let old_and_new = [other.public(), key.public()];
        assert_eq!(signed.verify(&old_and_new).expect("signed"), manifest);
        assert!(signed.verify(&[other.public()]).is_err() && signed.verify(&[]).is_err());
        let text = serde_json::to_string(&signed).expect("json");
        assert_eq!(Signed::parse(&text).expect("read"), signed);
        for n in 0..signed.manifest.len() {
            let mut bytes = signed.manifest.clone().into_bytes();
            bytes[n] ^= 1;
            let Ok(manifest) = String::from_utf8(bytes) else { continue };
            assert!(
                Signed { manifest, ..signed.clone() }.verify(&old_and_new).is_err(),
                "byte {n}"
            );
        }
        let again = SigningKey::from_pem(&pem).expect("a key");
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::parse(&key.public().to_base64()).expect("a key"), key.public());
        assert!(Signed::parse("{}").is_err() && PublicKey::parse("AAAA").is_err());
    }

    fn refusal(signed: &Manifest, image: &Image, hardware: Option<&str>) -> String {
        let now = DateTime::from_timestamp(1_795_000_000, 0).expect("a time");
        let error = signed.fits(image, "1.2.0", hardware, now).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    }

    #[test]
    fn a_refusal_names_the_property_with_both_values() {
        let image = image();
        let hardware = Some("TTGO T-Call v1.4");
        let of = |change: fn(&mut Manifest)| {
            let mut signed = manifest(&image);
            change(&mut signed);
            refusal(&signed, &image, hardware)
        };
        let version = of(|m| m.version = "1.1.0".into());
        assert_eq!(version, "the signed version is `1.1.0`, the uploaded one is `1.2.0`");
        let all = of(|m| m.hardware = None);
        assert_eq!(all, "the signed hardware is `(all)`, the uploaded one is `TTGO T-Call v1.4`");
        assert!(of(|m| m.chip = "ESP32-S3".into()).contains("chip is `ESP32-S3`"));
        let size = of(|m| m.size = 7);
        assert_eq!(size, format!("the signed size is `7`, the uploaded one is `{}`", image.size));
        assert!(of(|m| m.sha256 = "00".into()).contains("SHA-256 is `00`"));
        assert!(of(|m| m.expires_at = DateTime::from_timestamp(0, 0)).contains("expired"));
    }

    #[test]
    fn a_manifest_expires_with_its_second_or_never() {
        let at = |second| DateTime::from_timestamp(second, 0).expect("a time");
        let signed = Manifest { expires_at: Some(at(1000)), ..manifest(&image()) };
        assert!(!signed.is_expired(at(999)) && signed.is_expired(at(1000)));
        let lasting = Manifest { expires_at: None, ..signed };
        assert!(!lasting.is_expired(DateTime::<Utc>::MAX_UTC));
    }

    /// Signs any text, as a tool of another vendor might.
    fn sign_text(key: &SigningKey, text: &str) -> Signed {
        let signature = STANDARD.encode(key.0.sign(text.as_bytes()));
        Signed { manifest: text.to_owned(), signature }
    }

    #[test]
    fn a_good_signature_makes_no_manifest_of_other_text() {
        let (key, _) = SigningKey::generate().expect("a key");
        let good = serde_json::to_string(&manifest(&image())).expect("json");
        assert!(sign_text(&key, &good).verify(&[key.public()]).is_ok());
        let without = good.replace("\"sequence\":7,", "");
        let more = good.replacen('{', "{\"channel\":\"beta\",", 1);
        let twice = good.replacen('{', "{\"version\":\"9.9.9\",", 1);
        for text in ["", "{}", "null", "[]", &without, &more, &twice] {
            let error = sign_text(&key, text).verify(&[key.public()]).expect_err("no manifest");
            assert!(error.to_string().starts_with("the signed text is not a manifest"), "{error}");
        }
    }

    #[test]
    fn a_signature_belongs_to_its_text() {
        let (key, _) = SigningKey::generate().expect("a key");
        let one = Signed::sign(&manifest(&image()), &key).expect("signed");
        let other = Manifest { sequence: 8, ..manifest(&image()) };
        let other = Signed::sign(&other, &key).expect("signed");
        let swapped = Signed { manifest: one.manifest.clone(), ..other };
        assert!(swapped.verify(&[key.public()]).is_err());
        for signature in ["", "AAAA", "not base64!", &one.signature[4..], &"A".repeat(88)] {
            let bad = Signed { signature: signature.into(), ..one.clone() };
            assert!(bad.verify(&[key.public()]).is_err(), "{signature}");
        }
    }

    #[test]
    fn a_signature_file_has_two_fields_and_is_small() {
        let file = |length: usize| {
            let empty = r#"{"manifest":"","signature":""}"#.len();
            format!(r#"{{"manifest":"{}","signature":""}}"#, "x".repeat(length - empty))
        };
        assert!(Signed::parse(&file(MAX_FILE_BYTES)).is_ok());
        assert!(Signed::parse(&file(MAX_FILE_BYTES + 1)).is_err());
        for text in
            ["", "[]", r#"{"manifest":"a"}"#, r#"{"manifest":"a","signature":"b","key":"c"}"#]
        {
            let error = Signed::parse(text).expect_err("refused");
            assert!(error.to_string().contains("acuvim firmware sign"), "{text}: {error}");
        }
    }

    #[test]
    fn only_the_keys_of_this_algorithm_are_taken() {
        let (key, pem) = SigningKey::generate().expect("a key");
        let public = key.public();
        let encoded = |prefix: &[u8]| STANDARD.encode([prefix, &public.0].concat());
        let wrap = |body: &str| {
            format!("-----BEGIN PUBLIC KEY-----\r\n{body}\r\n-----END PUBLIC KEY-----\r\n")
        };
        let info = encoded(&PUBLIC_KEY_INFO);
        for text in [info.clone(), format!("  {}\n", public.to_base64()), wrap(&info)] {
            assert_eq!(PublicKey::parse(&text).expect("a key"), public, "{text}");
        }
        // X25519 is a key of the same length, for another purpose.
        let mut other = PUBLIC_KEY_INFO;
        other[8] = 0x6E;
        for text in [encoded(&other), wrap(&encoded(&other)), encoded(&[0]), String::new()] {
            let error = PublicKey::parse(&text).expect_err("refused");
            assert!(error.to_string().contains("32 bytes"), "{text}: {error}");
        }
        let error = PublicKey::parse(&pem).expect_err("the private half");
        let secret = pem.lines().nth(1).expect("the body");
        assert!(!error.to_string().contains(secret), "a secret is in no message");
        assert_eq!(format!("{key:?}"), "SigningKey");
        let error = SigningKey::from_pem(&wrap(&info)).expect_err("the public half");
        assert!(error.to_string().contains("BEGIN PRIVATE KEY"), "{error}");
        let broken = pem.replace("MC", "!!").replace("MF", "!!");
        assert!(SigningKey::from_pem(&broken).is_err());
    }

    #[test]
    fn keys_written_by_openssl_are_parsed() {
        // `openssl genpkey -algorithm ed25519`, and its public half.
        let private = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let key = SigningKey::from_pem(private).expect("a key");
        assert_eq!(PublicKey::parse(public).expect("a key"), key.public());
    }
}
