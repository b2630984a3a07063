//! What a device is offered: what a rollout has told it to take, else the newest active release for
//! its hardware that is newer than what it runs.

use std::cmp::Ordering;

use acuvim_control::StoredFirmware;
use acuvim_firmware_registry::{Version, chip_of, is_newer, runs};
use acuvim_schemas::api::{Firmware, FirmwareCheck};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{App, auth::now, problem::ApiError};

/// Who asks, and what it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asker {
    /// Its id; none for a question about no device.
    pub device_id: Option<String>,
    /// Whether the device itself asks. Its token is for nobody else: what is fetched with it counts as
    /// fetched by the device, and moves it on in its rollout.
    pub is_device: bool,
    /// What it runs.
    pub running: Option<String>,
    /// Its hardware.
    pub hardware: Option<String>,
}

/// The answer to a check.
pub(crate) async fn offer(app: &App, asker: &Asker) -> Result<FirmwareCheck, ApiError> {
    let nothing = FirmwareCheck {
        update_available: false,
        version: None,
        url: None,
        size: None,
        checksum: None,
        release_notes: None,
        mandatory: false,
        manifest: None,
    };
    let Some(chosen) = choose(app, asker).await? else { return Ok(nothing) };
    let firmware = chosen.firmware;
    let until = now() + TimeDelta::from_std(app.parts.firmware.token_time).unwrap_or_default();
    let device_id = asker.device_id.as_deref().filter(|_| asker.is_device);
    let url = url(app, &firmware, device_id, until)?;
    Ok(FirmwareCheck {
        update_available: true,
        version: Some(firmware.version),
        url: Some(url),
        size: Some(firmware.file_size),
        checksum: Some(firmware.checksum),
        release_notes: firmware.release_notes,
        mandatory: firmware.mandatory,
        manifest: firmware.manifest,
    })
}

/// Where a release is, for a device; without one, the URL takes a login.
pub(crate) fn url(
    app: &App,
    firmware: &Firmware,
    device_id: Option<&str>,
    until: DateTime<Utc>,
) -> Result<String, ApiError> {
    let options = &app.parts.firmware;
    let version = firmware.version.replace('+', "%2B");
    let plain = format!("{}/api/firmware/download/{version}", options.base_url);
    let Some(device_id) = device_id else { return Ok(plain) };
    let token = options.token_key.make(device_id, &firmware.version, until)?;
    Ok(format!("{plain}?t={token}"))
}

async fn choose(app: &App, asker: &Asker) -> Result<Option<StoredFirmware>, ApiError> {
    let running = asker.running.as_deref();
    if let Some(device_id) = &asker.device_id
        && let Some(version) = app.control().told_version(device_id).await?
        && !runs(running, &version)
        && let Some(told) = app.control().firmware(&version).await?
    {
        return Ok(Some(told));
    }
    let (now, held) = (now(), app.control().versions_held().await?);
    let mut fit: Vec<StoredFirmware> = app
        .control()
        .firmware_list(true)
        .await?
        .into_iter()
        .filter(|f| unfit(app, &f.firmware, asker.hardware.as_deref()).is_none())
        .filter(|f| is_newer(&f.firmware.version, running))
        .filter(|f| f.manifest_expires.is_none_or(|at| at > now))
        .filter(|f| !held.contains(&f.firmware.version))
        .collect();
    fit.sort_by(|a, b| newest_first(&a.firmware, &b.firmware));
    for firmware in fit {
        let Some(device_id) = &asker.device_id else { return Ok(Some(firmware)) };
        let failures = app.control().update_failures(device_id, &firmware.firmware.version).await?;
        if failures < app.parts.firmware.most_failures {
            return Ok(Some(firmware));
        }
    }
    Ok(None)
}

/// Why a hardware can't take a release; none: it can. One for a certain hardware is for none that is
/// not known; one for all is for those of its chip, as far as that is known.
pub(crate) fn unfit(app: &App, firmware: &Firmware, hardware: Option<&str>) -> Option<String> {
    match (&firmware.hardware, hardware) {
        (Some(wanted), None) => {
            Some(format!("its hardware is not known, the image is for {wanted}"))
        }
        (Some(wanted), Some(its)) if !its.eq_ignore_ascii_case(wanted) => {
            Some(format!("its hardware is {its}, the image is for {wanted}"))
        }
        (None, Some(its)) => {
            let chip = chip_of(its, &app.parts.firmware.chips)?;
            let other = chip.as_str() != firmware.image.chip;
            other.then(|| {
                format!("its chip is the {chip}, the image is for the {}", firmware.image.chip)
            })
        }
        _ => None,
    }
}

fn newest_first(a: &Firmware, b: &Firmware) -> Ordering {
    match (Version::parse(&a.version), Version::parse(&b.version)) {
        (Some(one), Some(other)) => other.precedence(&one).then(b.created_at.cmp(&a.created_at)),
        (one, other) => other.is_some().cmp(&one.is_some()),
    }
}
