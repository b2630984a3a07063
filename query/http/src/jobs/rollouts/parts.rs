//! The parts that the runner of rollouts works with.

use std::{sync::Arc, time::Duration};

use acuvim_control::Control;
use acuvim_firmware_registry::ImageStore;
use acuvim_rollout::GateAnswer;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::download_url::DownloadUrls;

/// Devices that are handled in one transaction.
pub(super) const CHUNK: usize = 200;

/// Asks a rollout's health gate.
pub(crate) trait HealthGate: Send + Sync {
    /// How the gate's query judges the devices of a rollout.
    fn ask(&self, rollout: Uuid, sql: &str) -> impl Future<Output = GateAnswer> + Send;

    /// How long an answer may take.
    fn timeout(&self) -> Duration;

    /// Whether the tail, and with it the devices' messages, is up to date.
    fn is_up_to_date(&self) -> bool;
}

/// Runs rollouts.
pub(crate) struct RolloutRunner<G> {
    pub control: Control,
    pub gate: G,
    pub images: ImageStore,
    pub urls: Arc<DownloadUrls>,
    pub commands: CommandSettings,
    /// The pause between two rounds.
    pub interval: Duration,
    /// Who this process is, for the lease.
    pub holder: String,
}

/// How devices are given their commands.
#[derive(Debug, Clone)]
pub(crate) struct CommandSettings {
    /// The beginning of the topics.
    pub topic_prefix: String,
    /// Seconds until a device has to have answered.
    pub first_timeout_s: i64,
    /// Seconds from then on until an `ota_update` has to be done.
    pub ack_timeout_s: i64,
}

/// This moment, to the millisecond, as every database keeps it.
pub(super) fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
}
