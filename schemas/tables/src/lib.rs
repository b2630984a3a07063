//! The lake's tables: their Arrow schemas, and what turns messages, events and counts into their rows.

pub mod dead_letters;
pub mod event;
pub mod heartbeat;
pub mod ledger;
pub mod rollup;
mod table;
pub mod telemetry;

pub use table::{DATE, Table, decimal, timestamp};
