//! Every format that crosses a process or a restart: topics, payloads, commands, log records, the decoder
//! from telemetry JSON to Arrow, table schemas, API types and the problem type. No IO, no clock.

pub mod address;
pub mod api;
pub mod command;
pub mod config;
pub mod dead_letter;
pub mod decimal;
pub mod device;
pub mod event;
pub mod heartbeat;
pub mod kind;
pub mod ledger;
pub mod payload;
pub mod problem;
pub mod reading;
pub mod record;
pub mod rollup;
pub mod tables;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod topic;

pub use dead_letter::{DeadLetter, Reason};
pub use device::DeviceId;
pub use kind::{DeviceKind, Kind};
pub use record::{Headers, Identity, Position, Record};
pub use time::Micros;
