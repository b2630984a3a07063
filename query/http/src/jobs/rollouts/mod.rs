//! Runs rollouts, in one process at a time, under a lease. Each round reads the devices' state, lets the pure
//! logic decide on the next step, and stores that step in one transaction, so that another process can go on
//! wherever this one stops.

mod cleaning;
mod download_url;
mod error;
mod parts;
mod runner;
mod step;

pub(crate) use download_url::DownloadUrls;
pub(crate) use parts::{CommandSettings, HealthGate, RolloutRunner};
