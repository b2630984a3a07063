//! The stores that the stream reads from and writes to.

use std::sync::Arc;

use acuvim_control::Control;
use acuvim_lakehouse::Lake;
use acuvim_log::Log;

/// The stores that the stream reads from and writes to.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// The log that records are read from.
    pub log: Arc<dyn Log>,
    /// The tables that rows are written to, with their tail in memory.
    pub lake: Arc<Lake>,
    /// The database of devices, alerts and commands.
    pub control: Control,
    /// The log's epoch, which grows with each new partition layout.
    pub epoch: i32,
    /// The name under which this process holds leases. No other process has it at the same time, and a process
    /// that starts again keeps it, so that it goes on at once with what it held when it was killed.
    pub holder: String,
}
