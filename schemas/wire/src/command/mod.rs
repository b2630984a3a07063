//! Commands to devices: the 20 commands, their parameters, and how a command is sent.

mod kind;
mod params;
mod source;
mod wire;

pub use kind::CommandKind;
pub use params::{Param, Shape, check_params};
pub use source::firmware_source;
pub use wire::{Command, Delivery, Outcome, packet_bytes};
