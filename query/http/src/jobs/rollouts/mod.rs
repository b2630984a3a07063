//! Runs rollouts: one process does, under a lease. Each round reads what is known of the devices, asks the
//! pure logic what is next, and stores that in one transaction, so that another process can go on wherever
//! this one stops.

mod cleaning;
mod download_url;
mod error;
mod parts;
mod runner;
mod step;

pub(crate) use download_url::DownloadUrls;
pub(crate) use parts::{CommandSettings, HealthGate, RolloutRunner};
