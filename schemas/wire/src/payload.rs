//! The payloads of all kinds but telemetry.

mod fields;
mod parse;
mod types;

pub use fields::{ODD, serial_of, whole};
pub use parse::{Fault, Payload, check_clock, fields, parse, registering_device};
pub use types::{
    AlertState, Connection, DeviceAlert, EventTime, Heartbeat, Registration, Response,
    ResponseStatus, Severity, Status,
};

#[cfg(test)]
mod tests;
