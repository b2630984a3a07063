//! Removal of images that no release has: an upload leaves one if its process is killed.

use acuvim_control::Control;
use acuvim_firmware_registry::ImageStore;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::error::RolloutError;

/// An image without a release that is older than this was left behind by an upload that never ended.
const LEFT_BEHIND: TimeDelta = TimeDelta::days(1);

/// Removes images that were left behind.
pub(super) async fn remove_orphans(
    control: &Control,
    store: &ImageStore,
    now: DateTime<Utc>,
) -> Result<(), RolloutError> {
    let releases = control.firmware_list(false).await?;
    for stored in store.list().await? {
        let is_needed = releases.iter().any(|release| release.object == stored.name);
        // Only names as we give them: others may keep files of theirs under the same prefix.
        let name = stored.name.strip_suffix(".bin").map(str::parse::<Uuid>);
        let is_ours = name.is_some_and(|name| name.is_ok());
        if is_ours && !is_needed && now - stored.modified > LEFT_BEHIND {
            store.delete(&stored.name).await?;
            tracing::info!(object = stored.name, "removed an image that no release has");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
