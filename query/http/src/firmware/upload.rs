//! Uploading a release. Only when all of a form is right is its image stored, and only when the image is stored
//! is there a release. So no release has half an image, or none.

use acuvim_control::{FirmwareMade, StoredFirmware};
use acuvim_firmware_registry::{Image, Signed};
use acuvim_model as api;
use acuvim_model::{FirmwareImage, SignedManifest, problem::Code};
use acuvim_rollout::{Version, chip_of, runs};
use axum::extract::Multipart;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    form::{self, Form, UploadedImage},
    service::Firmware,
};
use crate::{auth::Caller, clock::now, problem::ApiError};

/// The release of an upload.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub firmware: api::Firmware,
    /// Whether it is new; else the same release was there before.
    pub is_new: bool,
}

/// A new release: its form, its image and version.
struct Release<'a> {
    form: &'a Form,
    image: &'a Image,
    version: &'a str,
    now: DateTime<Utc>,
}

impl Firmware {
    /// Reads a form, and stores its image and the release.
    pub(crate) async fn upload(
        &self,
        caller: &Caller,
        parts: Multipart,
    ) -> Result<Uploaded, ApiError> {
        let mut form = form::read(parts, self.0.slot).await?;
        let missing = |field: &str| ApiError::field(field, "the form has no such part");
        let UploadedImage { image, bytes } = form.image.take().ok_or_else(|| missing("file"))?;
        let version = form.version.clone().ok_or_else(|| missing("version"))?;
        let by = caller.by();
        let new = Release { form: &form, image: &image, version: &version, now: now() };
        let release = self.release(&new, &by.name)?;
        // Before anything is stored: most conflicts are seen here.
        if let Some(there) = self.0.control.firmware(&version).await? {
            return conflict(there.firmware, &release.firmware);
        }
        let object = self.0.images.store().put(bytes).await?;
        let release = StoredFirmware { object: object.clone(), ..release };
        let made = self.0.control.create_firmware(&release, &by).await;
        // After an error the image stays: the error may hide a success that needs it. An image that no
        // release has is removed later by the runner of rollouts.
        if matches!(made, Ok(FirmwareMade::Same(_) | FirmwareMade::Taken | FirmwareMade::TooMany)) {
            let _ = self.0.images.store().delete(&object).await;
        }
        match made? {
            FirmwareMade::Made(firmware) => Ok(Uploaded { firmware: *firmware, is_new: true }),
            FirmwareMade::Same(there) => Ok(Uploaded { firmware: *there, is_new: false }),
            FirmwareMade::Taken => Err(taken(&version)),
            FirmwareMade::TooMany => Err(ApiError::new(
                Code::Refused,
                "there are 1000 releases: delete some that are not needed",
            )),
        }
    }

    /// The release that a form makes, with warnings about doubtful points.
    fn release(&self, new: &Release<'_>, created_by: &str) -> Result<StoredFirmware, ApiError> {
        let Release { form, image, version, now } = *new;
        if Version::parse(version).is_none() {
            return Err(ApiError::field(
                "version",
                "a semantic version, such as 1.2.0, of 32 characters at most",
            ));
        }
        if let Some(wanted) = &form.checksum
            && !wanted.eq_ignore_ascii_case(&image.sha256)
        {
            let detail =
                format!("the file has the SHA-256 {}: it was changed on its way", image.sha256);
            return Err(ApiError::field("checksum", detail));
        }
        let mut warnings = self.check_chip(new)?;
        let Manifest { signed, expires_at } = self.manifest(new)?;
        warnings.extend(doubts(image, version));
        let firmware = api::Firmware {
            id: Uuid::now_v7(),
            version: version.to_owned(),
            filename: form.filename.clone().unwrap_or_else(|| format!("{version}.bin")),
            file_size: i64::try_from(image.size).unwrap_or(i64::MAX),
            checksum: image.sha256.clone(),
            hardware: form.hardware.clone(),
            mandatory: form.mandatory,
            active: form.active.unwrap_or(true),
            release_notes: form.release_notes.clone(),
            image: described(image),
            manifest: signed,
            warnings,
            created_by: created_by.to_owned(),
            created_at: now,
            updated_at: now,
        };
        Ok(StoredFirmware { firmware, object: String::new(), manifest_expires: expires_at })
    }

    /// Refuses an image that is for another chip than its hardware has; warns if the chip is not known.
    fn check_chip(&self, new: &Release<'_>) -> Result<Vec<String>, ApiError> {
        let Some(hardware) = &new.form.hardware else { return Ok(Vec::new()) };
        let image = new.image;
        match chip_of(hardware, &self.0.chips) {
            Some(chip) if chip != image.chip => {
                let detail =
                    format!("the image is for the {}, {hardware} has an {chip}", image.chip);
                Err(ApiError::field("hardware", detail))
            }
            Some(_) => Ok(Vec::new()),
            None => Ok(vec![format!(
                "no chip is known for {hardware} (firmware.chips): whether the image's, {}, is right \
                 was not checked",
                image.chip
            )]),
        }
    }

    /// The form's signed manifest, which has to be about this image.
    fn manifest(&self, new: &Release<'_>) -> Result<Manifest, ApiError> {
        let Release { form, image, version, now } = *new;
        let refused =
            |e: acuvim_firmware_registry::Error| ApiError::field("signature", e.to_string());
        let Some(text) = &form.signature else {
            return match self.0.require_signature {
                true => Err(ApiError::field(
                    "signature",
                    "firmware.require_signature is set: send the file that `acuvim firmware sign` writes",
                )),
                false => Ok(Manifest::default()),
            };
        };
        let signed = Signed::parse(text).map_err(refused)?;
        let manifest = signed.verify(&self.0.public_keys).map_err(refused)?;
        manifest.fits(image, version, form.hardware.as_deref(), now).map_err(refused)?;
        let kept = SignedManifest { manifest: signed.manifest, signature: signed.signature };
        Ok(Manifest { signed: Some(kept), expires_at: manifest.expires_at })
    }
}

/// The manifest of a release.
#[derive(Debug, Default)]
struct Manifest {
    signed: Option<SignedManifest>,
    expires_at: Option<DateTime<Utc>>,
}

fn taken(version: &str) -> ApiError {
    let detail = format!("there is a firmware {version} of other bytes or for another hardware");
    ApiError::new(Code::Conflict, detail)
}

/// The same upload again is no conflict.
fn conflict(there: api::Firmware, new: &api::Firmware) -> Result<Uploaded, ApiError> {
    match there.checksum == new.checksum && there.hardware == new.hardware {
        true => Ok(Uploaded { firmware: there, is_new: false }),
        false => Err(taken(&new.version)),
    }
}

/// The facts in an image's own descriptor.
fn described(image: &Image) -> FirmwareImage {
    let descriptor = image.descriptor.as_ref();
    FirmwareImage {
        chip: image.chip.as_str().to_owned(),
        project: descriptor.map(|d| d.project.clone()),
        app_version: descriptor.map(|d| d.version.clone()),
        idf_version: descriptor.map(|d| d.idf_version.clone()),
        built_at: descriptor.map(|d| format!("{} {}", d.date, d.time).trim().to_owned()),
    }
}

fn doubts(image: &Image, version: &str) -> Vec<String> {
    let mut doubts = Vec::new();
    if !image.hashed {
        doubts.push(
            "the image carries no SHA-256 of its own: its header and load addresses are protected by \
             nothing before the upload"
                .to_owned(),
        );
    }
    match &image.descriptor {
        None => doubts.push("the image has no application descriptor".to_owned()),
        Some(its) if !runs(Some(&its.version), version) => {
            doubts.push(format!("the image says that its version is `{}`", its.version));
        }
        Some(_) => {}
    }
    doubts
}
