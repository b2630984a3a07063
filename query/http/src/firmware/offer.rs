//! The release that a device is offered: the one of its rollout, else the newest active release for its
//! hardware, if that is newer than the version that it runs.

use std::cmp::Ordering;

use acuvim_control::StoredFirmware;
use acuvim_model as api;
use acuvim_model::FirmwareCheck;
use acuvim_rollout::{Version, is_newer, runs};
use chrono::TimeDelta;

use super::service::Firmware;
use crate::{clock::now, problem::ApiError};

/// The device, or kind of device, that an offer is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asker {
    /// A device; none for a check that is about no device.
    pub device_id: Option<String>,
    /// Whether the device itself asks. Only then is there a token: what is downloaded with it counts as
    /// downloaded by the device, and moves it on in its rollout.
    pub is_device: bool,
    /// The version that it runs.
    pub running: Option<String>,
    pub hardware: Option<String>,
}

impl Firmware {
    /// The answer to a check: the release to take, or that there is none.
    pub(crate) async fn offer(&self, asker: &Asker) -> Result<FirmwareCheck, ApiError> {
        let Some(StoredFirmware { firmware, .. }) = self.choose(asker).await? else {
            return Ok(FirmwareCheck {
                update_available: false,
                version: None,
                url: None,
                size: None,
                checksum: None,
                release_notes: None,
                mandatory: false,
                manifest: None,
            });
        };
        let until = now() + TimeDelta::from_std(self.0.token_time).unwrap_or_default();
        let url = match asker.device_id.as_deref().filter(|_| asker.is_device) {
            Some(device_id) => self.0.urls.for_device(&firmware, device_id, until)?,
            None => self.0.urls.plain(&firmware),
        };
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

    async fn choose(&self, asker: &Asker) -> Result<Option<StoredFirmware>, ApiError> {
        let control = &self.0.control;
        let running = asker.running.as_deref();
        // A rollout comes first: it may bring an older release, or one that is not active.
        if let Some(device_id) = &asker.device_id
            && let Some(version) = control.told_version(device_id).await?
            && !runs(running, &version)
            && let Some(told) = control.firmware(&version).await?
        {
            return Ok(Some(told));
        }
        let (now, held) = (now(), control.versions_held().await?);
        let mut fit: Vec<StoredFirmware> = control
            .firmware_list(true)
            .await?
            .into_iter()
            .filter(|f| self.unfit(&f.firmware, asker.hardware.as_deref()).is_none())
            .filter(|f| is_newer(&f.firmware.version, running))
            .filter(|f| f.manifest_expires.is_none_or(|at| at > now))
            .filter(|f| !held.contains(&f.firmware.version))
            .collect();
        fit.sort_by(|a, b| newest_first(&a.firmware, &b.firmware));
        for firmware in fit {
            let Some(device_id) = &asker.device_id else { return Ok(Some(firmware)) };
            let failures = control.update_failures(device_id, &firmware.firmware.version).await?;
            if failures < self.0.most_failures {
                return Ok(Some(firmware));
            }
        }
        Ok(None)
    }

    /// Why a hardware can't take a release; none if it can. A release for one hardware fits no unknown
    /// one; a release for all fits the hardware of its chip, as far as that is known.
    pub(super) fn unfit(&self, firmware: &api::Firmware, hardware: Option<&str>) -> Option<String> {
        acuvim_rollout::why_unfit(firmware, hardware, &self.0.chips)
    }
}

fn newest_first(a: &api::Firmware, b: &api::Firmware) -> Ordering {
    match (Version::parse(&a.version), Version::parse(&b.version)) {
        (Some(one), Some(other)) => other.precedence(&one).then(b.created_at.cmp(&a.created_at)),
        (one, other) => other.is_some().cmp(&one.is_some()),
    }
}

#[cfg(test)]
mod tests;
