//! Taking an image: a form is read part by part, the image checked as it comes; only when all of it is
//! right is it stored, and only when it is stored is it a release.

use acuvim_control::{FirmwareMade, StoredFirmware};
use acuvim_firmware_registry::{Image, ImageCheck, Signed, Version, chip_of, runs};
use acuvim_schemas::{
    api::{Firmware, FirmwareImage, SignedManifest},
    problem::Code,
};
use axum::extract::{
    Multipart,
    multipart::{Field, MultipartError},
};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    App,
    auth::{Caller, now},
    checks,
    problem::ApiError,
};

/// The largest part that is not the image.
const TEXT: usize = 16 << 10;

/// An uploaded form.
#[derive(Debug, Default)]
struct Form {
    image: Option<(Image, Bytes)>,
    filename: Option<String>,
    version: Option<String>,
    release_notes: Option<String>,
    hardware: Option<String>,
    mandatory: bool,
    active: Option<bool>,
    signature: Option<String>,
    checksum: Option<String>,
}

/// Takes an upload; answers with the release, and whether it is new.
pub(crate) async fn upload(
    app: &App,
    caller: &Caller,
    mut parts: Multipart,
) -> Result<(Firmware, bool), ApiError> {
    let form = match read(app, &mut parts).await {
        Ok(form) => form,
        Err(error) => {
            // A connection that is closed while its client still writes shows the client no answer.
            while let Ok(Some(mut part)) = parts.next_field().await {
                while let Ok(Some(_)) = part.chunk().await {}
            }
            return Err(error);
        }
    };
    let missing = |field: &str| ApiError::field(field, "the form has no such part");
    let (image, bytes) = form.image.clone().ok_or_else(|| missing("file"))?;
    let version = form.version.clone().ok_or_else(|| missing("version"))?;
    let by = caller.by();
    let release = release(app, &form, (&image, &version), &by.name)?;
    // Before anything is stored: most of what would clash is seen here.
    if let Some(there) = app.control().firmware(&version).await? {
        return clash(there.firmware, &release.firmware);
    }
    let object = app.parts.firmware.images.store().put(bytes).await?;
    let release = StoredFirmware { object: object.clone(), ..release };
    let made = app.control().create_firmware(&release, &by).await;
    // An error may hide a success: then the image is needed. What is not is found by the one who cleans
    // up.
    if matches!(made, Ok(FirmwareMade::Same(_) | FirmwareMade::Taken | FirmwareMade::TooMany)) {
        let _ = app.parts.firmware.images.store().delete(&object).await;
    }
    match made? {
        FirmwareMade::Made(firmware) => Ok((*firmware, true)),
        FirmwareMade::Same(there) => Ok((*there, false)),
        FirmwareMade::Taken => Err(taken(&version)),
        FirmwareMade::TooMany => Err(ApiError::new(
            Code::Refused,
            "there are 1000 releases: delete some that are not needed",
        )),
    }
}

fn taken(version: &str) -> ApiError {
    let detail = format!("there is a firmware {version} of other bytes or for another hardware");
    ApiError::new(Code::Conflict, detail)
}

fn clash(there: Firmware, new: &Firmware) -> Result<(Firmware, bool), ApiError> {
    match there.checksum == new.checksum && there.hardware == new.hardware {
        true => Ok((there, false)),
        false => Err(taken(&new.version)),
    }
}

/// The release that a form makes, with what is doubtful about it.
fn release(
    app: &App,
    form: &Form,
    (image, version): (&Image, &str),
    created_by: &str,
) -> Result<StoredFirmware, ApiError> {
    let options = &app.parts.firmware;
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
    let mut warnings = Vec::new();
    if let Some(hardware) = &form.hardware {
        match chip_of(hardware, &options.chips) {
            Some(chip) if chip != image.chip => {
                let detail =
                    format!("the image is for the {}, {hardware} has an {chip}", image.chip);
                return Err(ApiError::field("hardware", detail));
            }
            Some(_) => {}
            None => warnings.push(format!(
                "no chip is known for {hardware} (firmware.chips): whether the image's, {}, is right \
                 was not checked",
                image.chip
            )),
        }
    }
    let now = now();
    let (manifest, expires) = signed(app, form, (image, version), now)?;
    warnings.extend(doubts(image, version));
    let descriptor = image.descriptor.clone();
    let built = descriptor.as_ref().map(|d| format!("{} {}", d.date, d.time).trim().to_owned());
    let firmware = Firmware {
        id: Uuid::now_v7(),
        version: version.to_owned(),
        filename: form.filename.clone().unwrap_or_else(|| format!("{version}.bin")),
        file_size: i64::try_from(image.size).unwrap_or(i64::MAX),
        checksum: image.sha256.clone(),
        hardware: form.hardware.clone(),
        mandatory: form.mandatory,
        active: form.active.unwrap_or(true),
        release_notes: form.release_notes.clone(),
        image: FirmwareImage {
            chip: image.chip.as_str().to_owned(),
            project: descriptor.as_ref().map(|d| d.project.clone()),
            app_version: descriptor.as_ref().map(|d| d.version.clone()),
            idf_version: descriptor.as_ref().map(|d| d.idf_version.clone()),
            built_at: built,
        },
        manifest,
        warnings,
        created_by: created_by.to_owned(),
        created_at: now,
        updated_at: now,
    };
    Ok(StoredFirmware { firmware, object: String::new(), manifest_expires: expires })
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

/// The signed manifest, if it speaks of this image.
fn signed(
    app: &App,
    form: &Form,
    (image, version): (&Image, &str),
    now: DateTime<Utc>,
) -> Result<(Option<SignedManifest>, Option<DateTime<Utc>>), ApiError> {
    let options = &app.parts.firmware;
    let refused = |e: acuvim_firmware_registry::Error| ApiError::field("signature", e.to_string());
    let Some(text) = &form.signature else {
        return match options.require_signature {
            true => Err(ApiError::field(
                "signature",
                "firmware.require_signature is set: send the file that `acuvim firmware sign` writes",
            )),
            false => Ok((None, None)),
        };
    };
    let signed = Signed::parse(text).map_err(refused)?;
    let manifest = signed.verify(&options.public_keys).map_err(refused)?;
    manifest.fits(image, version, form.hardware.as_deref(), now).map_err(refused)?;
    let kept = SignedManifest { manifest: signed.manifest, signature: signed.signature };
    Ok((Some(kept), manifest.expires_at))
}

async fn read(app: &App, parts: &mut Multipart) -> Result<Form, ApiError> {
    let mut form = Form::default();
    let mut seen = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        if seen.contains(&name) {
            return Err(ApiError::field(&name, "the form has this part twice"));
        }
        match name.as_str() {
            "file" => {
                form.filename = part.file_name().map(safe_name);
                form.image = Some(image(app, part).await?);
            }
            "version" => form.version = Some(text(&name, part).await?),
            "release_notes" => {
                let notes = text(&name, part).await?;
                checks::long_text("release_notes", &notes)?;
                form.release_notes = Some(notes);
            }
            "hardware" => {
                let hardware = text(&name, part).await?;
                checks::short_text("hardware", &hardware)?;
                form.hardware = Some(hardware);
            }
            "mandatory" => form.mandatory = yes_or_no(&name, &text(&name, part).await?)?,
            "active" => form.active = Some(yes_or_no(&name, &text(&name, part).await?)?),
            "signature" => form.signature = Some(text(&name, part).await?),
            "checksum" => form.checksum = Some(text(&name, part).await?),
            _ => {
                let known = "file, version, release_notes, hardware, mandatory, active, signature, checksum";
                return Err(ApiError::field(&name, format!("known parts are {known}")));
            }
        }
        seen.push(name);
    }
    Ok(form)
}

async fn image(app: &App, mut part: Field<'_>) -> Result<(Image, Bytes), ApiError> {
    let slot = app.parts.firmware.slot;
    let mut check = ImageCheck::new(slot);
    let mut bytes = BytesMut::new();
    let fault = |fault: acuvim_firmware_registry::Fault| match fault {
        acuvim_firmware_registry::Fault::TooLarge { .. } => {
            ApiError::new(Code::TooLarge, format!("the image: {fault}"))
        }
        fault => ApiError::field("file", fault.to_string()),
    };
    while let Some(chunk) = part.chunk().await.map_err(broken)? {
        check.update(&chunk).map_err(fault)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok((check.finish().map_err(fault)?, bytes.freeze()))
}

async fn text(name: &str, mut part: Field<'_>) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > TEXT {
            return Err(ApiError::field(name, "16 KiB at most"));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| ApiError::field(name, "it is not UTF-8"))
}

fn yes_or_no(name: &str, text: &str) -> Result<bool, ApiError> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ApiError::field(name, "true or false")),
    }
}

/// A form that broke off, or is none.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: MultipartError) -> ApiError {
    match error.status().as_u16() {
        413 => ApiError::new(Code::TooLarge, "the form is larger than an image may be"),
        _ => ApiError::new(Code::BadRequest, format!("the form: {}", error.body_text())),
    }
}

/// What a file was called, as far as it is fit to be shown: no folders, no control characters.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let name: String = last.chars().take(100).map(safe).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "firmware.bin".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_harmless() {
        for (name, safe) in [
            ("logger-1.2.0.bin", "logger-1.2.0.bin"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\a.bin", "a.bin"),
            ("...", "firmware.bin"),
            ("", "firmware.bin"),
            ("a\"b\r\nc.bin", "a_b__c.bin"),
            ("\u{202e}nib.exe", "_nib.exe"),
        ] {
            assert_eq!(safe_name(name), safe, "{name:?}");
        }
        assert_eq!(safe_name(&"x".repeat(500)).len(), 100);
    }
}
