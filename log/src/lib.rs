//! The log: where a message is durable before its PUBACK, and what everything else is derived from.
//!
//! One trait, [`Log`], with two implementations that a setting exchanges: [`EmbeddedLog`] for one process,
//! [`KafkaLog`] for many. The log moves [`Entry`] values and does not look into them; what they mean is
//! defined in [`acuvim_wire::entry`].

mod batch;
mod claim;
mod embedded;
mod error;
mod kafka;
mod log;
#[cfg(test)]
mod testing;

pub use acuvim_wire::{
    entry::{BadEntry, Entry},
    record::{LogTopic, Position},
};
pub use batch::{Batch, Bounds, ReadLimit};
pub use claim::Claim;
pub use embedded::{EmbeddedLog, EmbeddedOptions, Retention};
pub use error::{Error, ErrorKind};
pub use kafka::{KafkaLog, KafkaOptions};
pub use log::Log;
