//! Devices: their rows, what the fleet list shows, and the secrets that they connect with.

mod list;
mod read;
mod row;
mod secrets;
mod write;

pub use list::{DeviceFilter, DeviceSort};
pub use secrets::DeviceSecrets;
