//! Every format that crosses a process or a restart: topics, payloads, commands and log records, and what
//! the entries of the log mean. No IO, no clock, neither Arrow nor HTTP.

pub mod address;
pub mod command;
pub mod config;
pub mod dead_letter;
pub mod decimal;
pub mod device;
pub mod entry;
pub mod kind;
pub mod payload;
pub mod reading;
pub mod record;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod topic;
pub mod vitals;

pub use dead_letter::{DeadLetter, Reason};
pub use device::DeviceId;
pub use kind::{DeviceKind, Kind};
pub use record::{Headers, Identity, Position, Record};
pub use time::Micros;
