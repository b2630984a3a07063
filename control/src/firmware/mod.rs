//! Firmware: releases, rollouts, and how far each device's update has come.

mod apply;
mod change;
mod device;
mod fallback;
mod fetching;
mod list;
mod progress;
mod release;
mod running;
mod start;
mod withdraw;

pub use apply::{RolloutChange, RolloutOffer, RolloutStep};
pub use change::{RolloutChanged, RolloutVerb};
pub use device::MemberChange;
pub use fallback::Strayed;
pub use list::{RolloutDeviceFilter, RolloutFilter};
pub use release::{FirmwareDeleted, FirmwareMade, StoredFirmware};
pub use running::ROLLOUTS_LEASE;
pub use start::{NewRollout, RolloutStarted, Target};

#[cfg(test)]
mod tests;
