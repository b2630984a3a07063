//! Releases of firmware.

use acuvim_model::{Firmware, FirmwareEdit, FirmwareImage, SignedManifest};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    audit::By,
    db::{Control, Tx},
    error::{Error, ErrorKind},
    statement::Statement,
};

/// The number of releases is limited because every update check reads all active ones.
const MAX_RELEASES: i64 = 1000;

/// A stored release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFirmware {
    /// The release as the API shows it.
    pub firmware: Firmware,
    /// The name of its image in the object store.
    pub object: String,
    /// When its signed manifest expires, if ever.
    pub manifest_expires: Option<DateTime<Utc>>,
}

/// The outcome of creating a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirmwareMade {
    /// The release was created.
    Made(Box<Firmware>),
    /// The version exists with the same bytes; nothing was changed.
    Same(Box<Firmware>),
    /// The version exists with other bytes.
    Taken,
    /// There are too many releases.
    TooMany,
}

/// The outcome of deleting a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirmwareDeleted {
    /// Deleted; with the name of its image in the object store.
    Done(String),
    /// There is no such release.
    NotFound,
    /// It is in use; with what uses it.
    Needed(String),
}

/// The columns of [`Row`].
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
        let image: FirmwareImage =
            serde_json::from_value(row.image).map_err(|e| Error::stored("a stored image", e))?;
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
    /// Creates a release whose image is stored already. Of two concurrent calls for one version, one
    /// creates it.
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
        // Outside the transaction. If another call creates the version in between, the insert is a
        // conflict, and the second attempt finds it here.
        if let Some(there) = self.firmware(&firmware.version).await? {
            let same = there.firmware.checksum == firmware.checksum
                && there.firmware.hardware == firmware.hardware;
            return Ok(match same {
                true => FirmwareMade::Same(Box::new(there.firmware)),
                false => FirmwareMade::Taken,
            });
        }
        let mut tx = self.begin().await?;
        if tx.count("SELECT COUNT(*) FROM firmware", vec![]).await? >= MAX_RELEASES {
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

    /// The release of a version.
    pub async fn firmware(&self, version: &str) -> Result<Option<StoredFirmware>, Error> {
        let row: Option<Row> = self.select_one(one(version)).await?;
        row.map(StoredFirmware::try_from).transpose()
    }

    /// All releases, or only the active ones, newest upload first.
    pub async fn firmware_list(&self, active_only: bool) -> Result<Vec<StoredFirmware>, Error> {
        let mut all = Statement::select(COLUMNS);
        all.push("FROM firmware WHERE 1 = 1", []);
        if active_only {
            all.push("AND active = ?", [true.into()]);
        }
        all.push("ORDER BY created_at DESC, id DESC LIMIT ?", [MAX_RELEASES.into()]);
        let rows: Vec<Row> = self.select(all).await?;
        rows.into_iter().map(StoredFirmware::try_from).collect()
    }

    /// Changes a release. `None` if there is none of that version.
    pub async fn edit_firmware(
        &self,
        version: &str,
        edit: &FirmwareEdit,
        by: &By,
    ) -> Result<Option<Firmware>, Error> {
        let mut tx = self.begin().await?;
        let changed = tx
            .execute(
                "UPDATE firmware SET active = COALESCE($1, active),
                     release_notes = COALESCE($2, release_notes),
                     mandatory = COALESCE($3, mandatory), updated_at = $4
                 WHERE version = $5",
                vec![
                    edit.active.into(),
                    edit.release_notes.clone().into(),
                    edit.mandatory.into(),
                    by.at.into(),
                    version.into(),
                ],
            )
            .await?;
        if changed == 0 {
            return Ok(None);
        }
        tx.audit(by, "firmware.edit", version, json!(edit)).await?;
        tx.commit().await?;
        Ok(self.firmware(version).await?.map(|stored| stored.firmware))
    }

    /// Deletes a release, unless a rollout or a device uses it or `force` is set. The caller deletes its
    /// image.
    pub async fn delete_firmware(
        &self,
        version: &str,
        force: bool,
        by: &By,
    ) -> Result<FirmwareDeleted, Error> {
        let mut tx = self.begin().await?;
        let found: Option<(String,)> = tx
            .fetch_optional("SELECT object FROM firmware WHERE version = $1", vec![version.into()])
            .await?;
        let Some((object,)) = found else { return Ok(FirmwareDeleted::NotFound) };
        if !force && let Some(users) = users_of(&mut tx, version).await? {
            return Ok(FirmwareDeleted::Needed(users));
        }
        tx.execute("DELETE FROM firmware WHERE version = $1", vec![version.into()]).await?;
        tx.audit(by, "firmware.delete", version, json!({ "force": force })).await?;
        tx.commit().await?;
        Ok(FirmwareDeleted::Done(object))
    }
}

fn one(version: &str) -> Statement {
    let mut one = Statement::select(COLUMNS);
    one.push("FROM firmware WHERE version = ?", [version.into()]);
    one
}

/// The release of a version, in a transaction.
pub(super) async fn release(tx: &mut Tx, version: &str) -> Result<Option<Firmware>, Error> {
    let row: Option<Row> = tx.select_one(one(version)).await?;
    Ok(row.map(StoredFirmware::try_from).transpose()?.map(|stored| stored.firmware))
}

/// What uses a release, for people.
async fn users_of(tx: &mut Tx, version: &str) -> Result<Option<String>, Error> {
    let rollouts = tx
        .count(
            "SELECT COUNT(*) FROM rollouts WHERE version = $1
                 AND state IN ('running', 'paused', 'stopped')",
            vec![version.into()],
        )
        .await?;
    if rollouts > 0 {
        return Ok(Some(format!("{rollouts} rollouts of it are not over")));
    }
    let sql = "SELECT COUNT(*) FROM devices WHERE firmware_version = $1";
    let devices = tx.count(sql, vec![version.into()]).await?;
    Ok((devices > 0).then(|| format!("{devices} devices run it")))
}
