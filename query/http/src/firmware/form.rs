//! The form of an upload, read part by part. The image is checked as it comes.

use acuvim_firmware_registry::{Image, ImageCheck, ImageError};
use acuvim_model::problem::Code;
use axum::extract::{
    Multipart,
    multipart::{Field, MultipartError},
};
use bytes::{Bytes, BytesMut};

use crate::{checks, problem::ApiError};

/// Bytes of the largest part that is not the image.
const TEXT: usize = 16 << 10;

/// The parts that a form may have.
const PARTS: &str =
    "file, version, release_notes, hardware, mandatory, active, signature, checksum";

/// An uploaded form.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub image: Option<UploadedImage>,
    pub filename: Option<String>,
    pub version: Option<String>,
    pub release_notes: Option<String>,
    pub hardware: Option<String>,
    pub mandatory: bool,
    pub active: Option<bool>,
    pub signature: Option<String>,
    pub checksum: Option<String>,
}

/// A checked image with its bytes.
#[derive(Debug, Clone)]
pub(super) struct UploadedImage {
    pub image: Image,
    pub bytes: Bytes,
}

/// Reads a form, whose image must fit into the slot. After an error the rest of the form is read
/// and thrown away: a client that is still writing when the connection is closed never sees the answer.
pub(super) async fn read(mut parts: Multipart, slot: u64) -> Result<Form, ApiError> {
    let mut form = Form::default();
    match form.read(&mut parts, slot).await {
        Ok(()) => Ok(form),
        Err(error) => {
            while let Ok(Some(mut part)) = parts.next_field().await {
                while let Ok(Some(_)) = part.chunk().await {}
            }
            Err(error)
        }
    }
}

impl Form {
    async fn read(&mut self, parts: &mut Multipart, slot: u64) -> Result<(), ApiError> {
        let mut seen = Vec::new();
        while let Some(part) = parts.next_field().await.map_err(broken)? {
            let name = part.name().unwrap_or_default().to_owned();
            if seen.contains(&name) {
                return Err(ApiError::field(&name, "the form has this part twice"));
            }
            self.take(&name, part, slot).await?;
            seen.push(name);
        }
        Ok(())
    }

    async fn take(&mut self, name: &str, part: Field<'_>, slot: u64) -> Result<(), ApiError> {
        match name {
            "file" => {
                self.filename = part.file_name().map(safe_name);
                self.image = Some(image(part, slot).await?);
            }
            "version" => self.version = Some(text(name, part).await?),
            "release_notes" => {
                let notes = text(name, part).await?;
                checks::long_text("release_notes", &notes)?;
                self.release_notes = Some(notes);
            }
            "hardware" => {
                let hardware = text(name, part).await?;
                checks::short_text("hardware", &hardware)?;
                self.hardware = Some(hardware);
            }
            "mandatory" => self.mandatory = yes_or_no(name, &text(name, part).await?)?,
            "active" => self.active = Some(yes_or_no(name, &text(name, part).await?)?),
            "signature" => self.signature = Some(text(name, part).await?),
            "checksum" => self.checksum = Some(text(name, part).await?),
            _ => return Err(ApiError::field(name, format!("known parts are {PARTS}"))),
        }
        Ok(())
    }
}

async fn image(mut part: Field<'_>, slot: u64) -> Result<UploadedImage, ApiError> {
    // Checked while it arrives: a file that is no image is refused after its first bytes.
    let mut check = ImageCheck::new(slot);
    let mut bytes = BytesMut::new();
    let refused = |fault: ImageError| match fault {
        ImageError::TooLarge { .. } => ApiError::new(Code::TooLarge, format!("the image: {fault}")),
        fault => ApiError::field("file", fault.to_string()),
    };
    while let Some(chunk) = part.chunk().await.map_err(broken)? {
        check.update(&chunk).map_err(refused)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(UploadedImage { image: check.finish().map_err(refused)?, bytes: bytes.freeze() })
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

/// A form that broke off, or that is not a form.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: MultipartError) -> ApiError {
    match error.status().as_u16() {
        413 => ApiError::new(Code::TooLarge, "the form is larger than an image may be"),
        _ => ApiError::new(Code::BadRequest, format!("the form: {}", error.body_text())),
    }
}

/// A file's name as it can be shown: without folders and control characters.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let name: String = last.chars().take(100).map(safe).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "firmware.bin".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests;
