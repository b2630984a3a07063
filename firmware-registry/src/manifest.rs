//! Signed manifests: what a release is, in words that a key has signed.
//!
//! The signature is ed25519 (RFC 8032) over the manifest's bytes as they stand, so that a device
//! checks what it was given and need not know how we write JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, image::Image};

/// What a release is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its version.
    pub version: String,
    /// The hardware that it is for; none: all of the chip.
    pub hardware: Option<String>,
    /// The chip.
    pub chip: String,
    /// Bytes.
    pub size: u64,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// Grows with each release, so that a device can refuse to go back.
    pub sequence: i64,
    /// From then on it is not to be installed any more; none: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A manifest and its signature, as a file beside the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The manifest's JSON, as it was signed.
    pub manifest: String,
    /// The signature of these bytes, in base64.
    pub signature: String,
}

/// The largest signature file.
const LARGEST: usize = 8 << 10;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

impl Signed {
    /// Reads a signature file.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > LARGEST {
            return Err(invalid("the signature is larger than 8 KiB"));
        }
        serde_json::from_str(text).map_err(|e| {
            invalid(format!(
                "the signature is not what `acuvim firmware sign` writes, \
                 {{\"manifest\": \"...\", \"signature\": \"...\"}}: {e}"
            ))
        })
    }

    /// Signs a manifest.
    ///
    /// # Errors
    /// Never in practice: a manifest is always JSON.
    pub fn sign(manifest: &Manifest, key: &SigningKey) -> Result<Self, Error> {
        let manifest = serde_json::to_string(manifest).map_err(|e| invalid(e.to_string()))?;
        let signature = STANDARD.encode(key.0.sign(manifest.as_bytes()));
        Ok(Self { manifest, signature })
    }

    /// The manifest, if one of the keys has signed it.
    ///
    /// # Errors
    /// When none has, or when it is no manifest.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<Manifest, Error> {
        let signature = STANDARD.decode(&self.signature);
        let signature = signature.map_err(|_| invalid("the signature is not base64"))?;
        let signed = |key: &PublicKey| {
            UnparsedPublicKey::new(&ED25519, key.0).verify(self.manifest.as_bytes(), &signature)
        };
        if !keys.iter().any(|key| signed(key).is_ok()) {
            return Err(invalid("no key of firmware.public_keys has signed this manifest"));
        }
        serde_json::from_str(&self.manifest)
            .map_err(|e| invalid(format!("what was signed is no manifest: {e}")))
    }
}

impl Manifest {
    /// Checks that it speaks of this image, under this version and for this hardware, at this time.
    ///
    /// # Errors
    /// Names what differs.
    pub fn fits(
        &self,
        image: &Image,
        version: &str,
        hardware: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let differs = |what: &str, signed: &str, given: &str| {
            Err(invalid(format!("signed is the {what} `{signed}`, uploaded is `{given}`")))
        };
        if self.version != version {
            return differs("version", &self.version, version);
        }
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
        if self.size != image.size || self.sha256 != image.sha256 {
            return differs("SHA-256", &self.sha256, &image.sha256);
        }
        match self.is_expired(now) {
            true => Err(invalid("the signed manifest has expired")),
            false => Ok(()),
        }
    }

    /// Whether it is not to be installed any more.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// A key that signatures are checked with: 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl SigningKey {
    /// Makes a new key; answers with its PEM text too.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<(Self, String), Error> {
        let random = ring::rand::SystemRandom::new();
        let der = Ed25519KeyPair::generate_pkcs8(&random)
            .map_err(|_| Error::new(ErrorKind::Internal, "no randomness for a key"))?;
        let body = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        );
        Ok((Self::from_pem(&pem)?, pem))
    }

    /// Reads a PEM of a PKCS#8 private key, as this program and `openssl genpkey` write it.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let der = body(pem, "PRIVATE KEY")?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map(Self)
            .map_err(|e| invalid(format!("no ed25519 key in PKCS#8: {e}")))
    }

    /// What its signatures are checked with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(self.0.public_key().as_ref()).for_each(|(to, from)| *to = *from);
        PublicKey(bytes)
    }
}

impl PublicKey {
    /// Reads 32 bytes in base64, or a PEM of a public key as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bytes = match text.contains("-----BEGIN") {
            true => body(text, "PUBLIC KEY")?,
            false => STANDARD.decode(text.trim()).map_err(|_| invalid("a public key is base64"))?,
        };
        // A SubjectPublicKeyInfo of ed25519 (RFC 8410) is 12 fixed bytes and the key.
        let start = if bytes.len() == 44 { 12 } else { 0 };
        let key = bytes.get(start..).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or_else(|| invalid("an ed25519 public key has 32 bytes"))
    }

    /// In base64, as `firmware.public_keys` takes it.
    #[must_use]
    pub fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }
}

fn body(pem: &str, label: &str) -> Result<Vec<u8>, Error> {
    let none = || invalid(format!("there is no -----BEGIN {label}----- in it"));
    let begin = format!("-----BEGIN {label}-----");
    let (_, rest) = pem.split_once(&begin).ok_or_else(none)?;
    let (inside, _) = rest.split_once("-----END").ok_or_else(none)?;
    let inside: String = inside.split_whitespace().collect();
    STANDARD.decode(inside).map_err(|_| invalid("the PEM's body is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{image::ImageCheck, sample::Sample};

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
    fn a_manifest_holds_for_what_was_signed_and_nothing_else() {
        let (image, now) = (image(), DateTime::from_timestamp(1_795_000_000, 0).expect("a time"));
        let signed = manifest(&image);
        let hardware = Some("TTGO T-Call v1.4");
        assert!(signed.fits(&image, "1.2.0", hardware, now).is_ok());
        assert!(signed.fits(&image, "1.2.1", hardware, now).is_err());
        assert!(signed.fits(&image, "1.2.0", None, now).is_err());
        assert!(signed.fits(&image, "1.2.0", hardware, signed.expires_at.expect("set")).is_err());
        let other = Image { sha256: "0".repeat(64), ..image.clone() };
        assert!(signed.fits(&other, "1.2.0", hardware, now).is_err());
        let other = Image { chip: crate::Chip::Esp32S3, ..image };
        assert!(signed.fits(&other, "1.2.0", hardware, now).is_err());
    }

    #[test]
    fn only_the_keys_signature_over_these_bytes_counts() {
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

    #[test]
    fn keys_of_openssl_are_read() {
        // `openssl genpkey -algorithm ed25519`, and its public half.
        let private = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let key = SigningKey::from_pem(private).expect("a key");
        assert_eq!(PublicKey::parse(public).expect("a key"), key.public());
    }
}
