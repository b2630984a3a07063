//! Firmware: releases, and what a device is offered.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FirmwareImage {
    /// The chip that it is for: `ESP32`, `ESP32-S2`, `ESP32-C3` or `ESP32-S3`.
    pub chip: String,
    /// The project's name.
    pub project: Option<String>,
    /// The version that it was built with.
    pub app_version: Option<String>,
    /// The ESP-IDF that it was built with.
    pub idf_version: Option<String>,
    /// When it was built, as its compiler wrote it.
    pub built_at: Option<String>,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Firmware {
    /// Its id.
    pub id: Uuid,
    /// Its semantic version.
    #[cfg_attr(feature = "openapi", schema(example = "1.2.0"))]
    pub version: String,
    /// What the uploaded file was called.
    pub filename: String,
    /// Bytes.
    pub file_size: i64,
    /// The SHA-256 of the file, in hex.
    pub checksum: String,
    /// The hardware that it is for; null: all.
    pub hardware: Option<String>,
    /// Whether devices should take it without asking.
    pub mandatory: bool,
    /// Whether checks offer it.
    pub active: bool,
    /// What is new.
    pub release_notes: Option<String>,
    /// What the image says of itself.
    pub image: FirmwareImage,
    /// The signed manifest, where it was uploaded with one.
    pub manifest: Option<SignedManifest>,
    /// What is doubtful about it.
    pub warnings: Vec<String>,
    /// Who uploaded it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A manifest as it was signed, and its ed25519 signature in base64.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedManifest {
    /// The manifest's JSON, byte for byte as it was signed.
    pub manifest: String,
    /// The signature of these bytes.
    pub signature: String,
}

/// `PUT /api/firmware/{version}`: what can be changed of a release. What is not given stays.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FirmwareEdit {
    /// Whether checks offer it.
    pub active: Option<bool>,
    /// What is new.
    pub release_notes: Option<String>,
    /// Whether devices should take it without asking.
    pub mandatory: Option<bool>,
}

/// `POST /api/firmware`, a multipart form.
#[derive(Debug)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(dead_code, reason = "describes a form that is read part by part")]
pub struct FirmwareUpload {
    /// The image.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Binary))]
    file: Vec<u8>,
    /// Its semantic version, 32 characters at most.
    version: String,
    /// What is new.
    release_notes: Option<String>,
    /// The hardware that it is for; all unless given.
    hardware: Option<String>,
    /// Whether devices should take it without asking: `true` or `false`.
    mandatory: Option<bool>,
    /// Whether checks offer it at once: `true`, the default, or `false`.
    active: Option<bool>,
    /// The file that `acuvim firmware sign` wrote.
    signature: Option<String>,
    /// The SHA-256 that the file must have, in hex.
    checksum: Option<String>,
}

/// `GET /api/firmware/check`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FirmwareCheck {
    /// Whether there is something newer for the device.
    pub update_available: bool,
    /// Its version.
    pub version: Option<String>,
    /// Where it is, with a token that is good for this device and version.
    pub url: Option<String>,
    /// Bytes.
    pub size: Option<i64>,
    /// Its SHA-256, in hex.
    pub checksum: Option<String>,
    /// What is new.
    pub release_notes: Option<String>,
    /// Whether the device should take it without asking.
    pub mandatory: bool,
    /// The signed manifest, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<SignedManifest>,
}
