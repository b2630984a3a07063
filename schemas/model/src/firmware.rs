//! Firmware: releases, and what a device is offered.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the header of an image says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FirmwareImage {
    /// The chip that it is for: `ESP32`, `ESP32-S2`, `ESP32-C3` or `ESP32-S3`.
    pub chip: String,
    /// The name of the ESP-IDF project.
    pub project: Option<String>,
    /// The version in the image, which should be that of the release.
    pub app_version: Option<String>,
    /// The version of ESP-IDF that it was built with.
    pub idf_version: Option<String>,
    /// Date and time of the build, as the compiler wrote them.
    pub built_at: Option<String>,
}

/// A release of firmware.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Firmware {
    /// The id of the release.
    pub id: Uuid,
    /// The semantic version, which no other release has.
    #[cfg_attr(feature = "openapi", schema(example = "1.2.0"))]
    pub version: String,
    /// The name of the uploaded file.
    pub filename: String,
    /// The size of the image in bytes.
    pub file_size: i64,
    /// The SHA-256 of the file, in hex.
    pub checksum: String,
    /// The hardware type that it is for; null for all.
    pub hardware: Option<String>,
    /// Whether devices should install it without asking.
    pub mandatory: bool,
    /// Whether the update check offers it to devices.
    pub active: bool,
    /// What is new in it, for people.
    pub release_notes: Option<String>,
    /// What the header of the image says.
    pub image: FirmwareImage,
    /// The signed manifest; null if the release was uploaded without one.
    pub manifest: Option<SignedManifest>,
    /// Doubts about the image in words, such as another version in its header; usually none.
    pub warnings: Vec<String>,
    /// The name of the user who uploaded it.
    pub created_by: String,
    /// When it was uploaded.
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
    /// Whether the update check offers it to devices.
    pub active: Option<bool>,
    /// What is new in it, for people.
    pub release_notes: Option<String>,
    /// Whether devices should install it without asking.
    pub mandatory: Option<bool>,
}

/// `POST /api/firmware`, a multipart form.
#[derive(Debug)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(dead_code, reason = "describes a form that is read part by part")]
pub struct FirmwareUpload {
    /// The image, a binary for an ESP32.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Binary))]
    file: Vec<u8>,
    /// The semantic version, up to 32 characters.
    version: String,
    /// What is new in it, for people.
    release_notes: Option<String>,
    /// The hardware type that it is for; all unless given.
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
    /// Whether there is a newer release for the device.
    pub update_available: bool,
    /// The version of that release.
    pub version: Option<String>,
    /// Where the image is, with a token that is valid for this device and version.
    pub url: Option<String>,
    /// The size of the image in bytes.
    pub size: Option<i64>,
    /// The SHA-256 of the image, in hex.
    pub checksum: Option<String>,
    /// What is new in it, for people.
    pub release_notes: Option<String>,
    /// Whether the device should install it without asking.
    pub mandatory: bool,
    /// The signed manifest, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<SignedManifest>,
}

#[cfg(test)]
mod tests;
