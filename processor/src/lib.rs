//! The stream. It reads the log, decodes records into rows, drops duplicates, keeps the rows in the
//! tail and flushes them to the lake. On the way it evaluates rules and device health, and writes
//! what it finds to control.
//!
//! Each partition has a task of its own (`partition`), which either writes the partition or follows
//! it for queries; `supervisor` decides which. One flusher serves all partitions. Jobs that only
//! one process may do at a time are in `jobs`.
//!
//! An offset moves only together with what it covers: the lake's offset in the commit of the rows,
//! control's offset in the transaction of the changes. A crash therefore loses and doubles nothing.

mod api_time;
mod catch_up;
mod dependencies;
mod fatal;
mod flusher;
mod jobs;
mod meters;
mod options;
mod partition;
mod processor;
mod rule_watch;
mod state;
mod supervisor;
#[cfg(test)]
mod testing;

pub use acuvim_rules::{HealthPolicy, VitalLimits};

pub use dependencies::Dependencies;
pub use fatal::Fatal;
pub use flusher::LAKE_CURSOR;
pub use options::{
    AllowedNetworks, Conditions, FlushPolicy, NotifyOptions, ProcessorOptions, Retention,
    StreamGuards, refused_address,
};
pub use processor::{Duties, Processor};
pub use state::{ProcessorState, StateWatch};
