//! Limits of queries.

use std::time::Duration;

use crate::gate::GateLimits;

/// Limits of queries, each alone and all together.
#[derive(Debug, Clone)]
pub struct SqlLimits {
    /// How large a query's text may be.
    pub gate: GateLimits,
    /// The longest time that a query may take; also what it gets if it asks for no other.
    pub timeout: Duration,
    /// Rows of an answer.
    pub max_rows: usize,
    /// Cells (rows times columns) of an answer: the cost of writing it.
    pub max_cells: usize,
    /// Bytes of an answer's rows in memory.
    pub max_bytes: usize,
    /// Queries that run at a time; more wait.
    pub concurrent: usize,
    /// Exports that run at a time; more are refused.
    pub exports: usize,
    /// How long an export's client may read nothing before another export gets its slot.
    pub export_stall: Duration,
    /// Rows that a query may read of one of control's tables.
    pub max_control_rows: i64,
    /// Threads that all queries share.
    pub threads: usize,
    /// Bytes of stack of each: planning recurses as deep as the gate lets a query nest.
    pub stack: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            gate: GateLimits::default(),
            timeout: Duration::from_secs(30),
            max_rows: 100_000,
            max_cells: 10_000_000,
            max_bytes: 64 << 20,
            concurrent: 4,
            exports: 4,
            export_stall: Duration::from_secs(60),
            max_control_rows: 200_000,
            threads: 2,
            stack: 16 << 20,
        }
    }
}
