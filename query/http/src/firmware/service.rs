//! The state that everything about firmware shares.

use std::{sync::Arc, time::Duration};

use acuvim_control::Control;
use acuvim_firmware_registry::{PublicKey, TrustedImages};
use acuvim_model::problem::Code;
use acuvim_query_sql::Sql;
use acuvim_rollout::Chip;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{options::FirmwareOptions, passes::Passes};
use crate::{jobs::rollouts::DownloadUrls, problem::ApiError};

/// Uploads at a time: each is held in memory until it is stored.
const UPLOADS: usize = 2;

/// Firmware: uploads, checks, downloads and the start of rollouts. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Firmware(pub(super) Arc<Inner>);

/// See the fields of [`FirmwareOptions`].
#[derive(Debug)]
pub(super) struct Inner {
    pub control: Control,
    /// Checks the health gates of new rollouts.
    pub sql: Sql,
    pub images: TrustedImages,
    pub urls: Arc<DownloadUrls>,
    pub slot: u64,
    pub chips: Vec<(String, Chip)>,
    pub public_keys: Vec<PublicKey>,
    pub require_signature: bool,
    pub allow_bare_device_id: bool,
    pub most_failures: i64,
    pub token_time: Duration,
    pub passes: Passes,
    uploads: Semaphore,
}

impl Firmware {
    pub fn new(control: Control, sql: Sql, options: FirmwareOptions) -> Self {
        let FirmwareOptions { token_key, base_url, .. } = options;
        Self(Arc::new(Inner {
            control,
            sql,
            images: options.images,
            urls: Arc::new(DownloadUrls { token_key, base_url }),
            slot: options.slot,
            chips: options.chips,
            public_keys: options.public_keys,
            require_signature: options.require_signature,
            allow_bare_device_id: options.allow_bare_device_id,
            most_failures: options.most_failures,
            token_time: options.token_time,
            passes: Passes::default(),
            uploads: Semaphore::new(UPLOADS),
        }))
    }

    /// The stored images, which are checked before they are served.
    pub fn images(&self) -> &TrustedImages {
        &self.0.images
    }

    /// Where devices find images.
    pub fn urls(&self) -> Arc<DownloadUrls> {
        Arc::clone(&self.0.urls)
    }

    /// A permit for an upload, which ends when it is dropped.
    pub fn begin_upload(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        let busy = |_| ApiError::new(Code::TooManyRequests, "two uploads run already; try again");
        self.0.uploads.try_acquire().map_err(busy)
    }

    /// Forgets the remembered rights to a version that was changed.
    pub fn forget(&self, version: &str) {
        self.0.passes.forget(version);
    }
}
