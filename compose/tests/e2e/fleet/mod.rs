//! Devices, commands, configuration, groups and users.

mod access;
mod answering;
mod commands;
mod configs;
mod devices;
mod inflight;
mod routes;

pub use answering::{Answering, give, until};
pub use commands::every_course;
