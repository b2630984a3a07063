//! Firmware over HTTP: uploads, offers to devices, downloads, and starting rollouts.

mod caller;
mod deploy;
mod error;
mod form;
mod gate;
mod offer;
mod options;
mod passes;
mod serve;
mod service;
mod upload;

pub(crate) use caller::{FirmwareCaller, Identification, UrlToken};
pub(crate) use error::no_firmware;
pub(crate) use gate::SqlGate;
pub(crate) use offer::Asker;
pub use options::FirmwareOptions;
pub(crate) use serve::DownloadRequest;
pub(crate) use service::Firmware;
pub(crate) use upload::Uploaded;
