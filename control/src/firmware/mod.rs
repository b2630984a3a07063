//! Releases of firmware: what was uploaded, and what is said of it.

mod apply;
mod edit;
mod fallback;
mod list;
mod member;
mod start;

use acuvim_schemas::api::{Firmware, FirmwareImage, SignedManifest};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{By, Control, Error, ErrorKind};

pub use apply::{MemberChange, RolloutChange, RolloutOffer, RolloutStep};
pub use edit::{RolloutChanged, RolloutVerb};
pub use fallback::Strayed;
pub use list::RolloutFilter;
pub use member::{RolloutMember, RunningRollout};
pub use start::{NewRollout, RolloutStarted, Target};

/// The lease of the one who runs rollouts.
pub const ROLLOUTS_LEASE: &str = "rollouts";

/// The most releases that there may be: checks read all active ones.
const MOST: i64 = 1000;

/// A release as it is stored, with where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFirmware {
    /// What is shown of it.
    pub firmware: Firmware,
    /// What it is called in the store.
    pub object: String,
    /// From then on its manifest does not hold; none: always.
    pub manifest_expires: Option<DateTime<Utc>>,
}

/// What became of a new release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirmwareMade {
    /// It is there.
    Made(Box<Firmware>),
    /// The same bytes are there under this version: nothing was changed.
    Same(Box<Firmware>),
    /// Other bytes are there under this version.
    Taken,
    /// As many are there as may be.
    TooMany,
}

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirmwareDeleted {
    /// It is gone; its bytes are called so in the store.
    Done(String),
    /// There is no such release.
    NotFound,
    /// It is needed, and by whom.
    Needed(String),
}

/// The columns of a release `f`.
const COLUMNS: &str = "id, version, filename, object, file_size, checksum, hardware, mandatory,
    active, release_notes, image, manifest, signature, manifest_expires, warnings, created_by,
    created_at, updated_at";

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    version: String,
    filename: String,
    object: String,
    file_size: i64,
    checksum: String,
    hardware: Option<String>,
    mandatory: bool,
    active: bool,
    release_notes: Option<String>,
    image: Json,
    manifest: Option<String>,
    signature: Option<String>,
    manifest_expires: Option<DateTime<Utc>>,
    warnings: Json,
    created_by: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for StoredFirmware {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let image: FirmwareImage = serde_json::from_value(row.image)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("a stored image: {e}")))?;
        let manifest = row
            .manifest
            .zip(row.signature)
            .map(|(manifest, signature)| SignedManifest { manifest, signature });
        Ok(Self {
            firmware: Firmware {
                id: row.id,
                version: row.version,
                filename: row.filename,
                file_size: row.file_size,
                checksum: row.checksum,
                hardware: row.hardware,
                mandatory: row.mandatory,
                active: row.active,
                release_notes: row.release_notes,
                image,
                manifest,
                warnings: serde_json::from_value(row.warnings).unwrap_or_default(),
                created_by: row.created_by,
                created_at: row.created_at,
                updated_at: row.updated_at,
            },
            object: row.object,
            manifest_expires: row.manifest_expires,
        })
    }
}

impl Control {
    /// Makes a release whose bytes are stored. Of two at once with one version, one is made.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn create_firmware(
        &self,
        new: &StoredFirmware,
        by: &By,
    ) -> Result<FirmwareMade, Error> {
        match self.try_create_firmware(new, by).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.try_create_firmware(new, by).await
            }
            made => made,
        }
    }

    async fn try_create_firmware(
        &self,
        new: &StoredFirmware,
        by: &By,
    ) -> Result<FirmwareMade, Error> {
        let firmware = &new.firmware;
        if let Some(there) = self.firmware(&firmware.version).await? {
            let same = there.firmware.checksum == firmware.checksum
                && there.firmware.hardware == firmware.hardware;
            return Ok(match same {
                true => FirmwareMade::Same(Box::new(there.firmware)),
                false => FirmwareMade::Taken,
            });
        }
        let mut tx = self.begin().await?;
        let count: Option<(i64,)> =
            tx.fetch_optional("SELECT COUNT(*) FROM firmware", vec![]).await?;
        if count.is_some_and(|(n,)| n >= MOST) {
            return Ok(FirmwareMade::TooMany);
        }
        let manifest = firmware.manifest.as_ref();
        tx.execute(
            "INSERT INTO firmware (id, version, filename, object, file_size, checksum, hardware,
                 mandatory, active, release_notes, image, manifest, signature, manifest_expires,
                 warnings, created_by, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)",
            vec![
                firmware.id.into(),
                firmware.version.as_str().into(),
                firmware.filename.as_str().into(),
                new.object.as_str().into(),
                firmware.file_size.into(),
                firmware.checksum.as_str().into(),
                firmware.hardware.clone().into(),
                firmware.mandatory.into(),
                firmware.active.into(),
                firmware.release_notes.clone().into(),
                json!(firmware.image).into(),
                manifest.map(|m| m.manifest.as_str()).into(),
                manifest.map(|m| m.signature.as_str()).into(),
                new.manifest_expires.into(),
                json!(firmware.warnings).into(),
                firmware.created_by.as_str().into(),
                firmware.created_at.into(),
            ],
        )
        .await?;
        let detail = json!({ "checksum": firmware.checksum, "hardware": firmware.hardware,
            "signed": manifest.is_some(), "active": firmware.active });
        tx.audit(by, "firmware.upload", &firmware.version, detail).await?;
        tx.commit().await?;
        Ok(FirmwareMade::Made(Box::new(firmware.clone())))
    }

    /// One release, by its version.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn firmware(&self, version: &str) -> Result<Option<StoredFirmware>, Error> {
        let mut one = crate::text::Statement::new("SELECT");
        one.push(COLUMNS, []);
        one.push("FROM firmware WHERE version = ?", [version.into()]);
        let (text, values) = one.into_parts();
        let row: Option<Row> = self.fetch_optional(text, values).await?;
        row.map(StoredFirmware::try_from).transpose()
    }

    /// Every release, newest upload first; only those that checks offer, if that is asked.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn firmware_list(&self, active_only: bool) -> Result<Vec<StoredFirmware>, Error> {
        let mut all = crate::text::Statement::new("SELECT");
        all.push(COLUMNS, []);
        all.push("FROM firmware WHERE 1 = 1", []);
        if active_only {
            all.push("AND active = ?", [true.into()]);
        }
        all.push("ORDER BY created_at DESC, id DESC LIMIT ?", [MOST.into()]);
        let (text, values) = all.into_parts();
        let rows: Vec<Row> = self.fetch_all(text, values).await?;
        rows.into_iter().map(StoredFirmware::try_from).collect()
    }
}
