//! One partition of the stream, as a pipeline of stages:
//!
//! ```text
//! reader ──▶ decode ──▶ dedup ──▶ evaluate ──▶ control_writer
//!                         └──▶ tail (and from there the flusher)
//! ```
//!
//! A batch of records goes from stage to stage as a value. [`Writer`] owns all stages;
//! [`Follower`], which keeps the rows of a partition that another process writes, owns those up to
//! `dedup`.
//!
//! Rows and changes have separate offsets, since the lake and control are committed separately.
//! After a restart the stream is read from the lower of the two, and the sink that is ahead skips
//! record by record ([`SinkOffsets`](decode::SinkOffsets)).
//!
//! The order of effects is what keeps a crash from losing or doubling anything: rows are in the
//! tail before control gets the changes that were found in them, and every offset is stored in the
//! same commit or transaction as what it covers.

mod context;
mod control_writer;
mod decode;
mod dedup;
mod evaluate;
mod follower;
mod reader;
mod replays;
mod stop;
#[cfg(test)]
mod testing;
mod writer;

pub(crate) use context::Context;
pub(crate) use follower::Follower;
pub(crate) use stop::StopReason;
pub(crate) use writer::Writer;
