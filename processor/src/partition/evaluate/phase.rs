//! What the evaluator of a partition is doing.

use super::{catch_up::CatchUp, repair::Repair};

/// What the evaluator of a partition is doing.
pub(super) enum Phase {
    /// It evaluates new rows, and its states are those of the newest row.
    Live,
    /// The lake was ahead of control at the start: rows that are stored already are read back and
    /// evaluated before new ones.
    CatchingUp(CatchUp),
    /// It evaluates new rows, and between batches it repairs the episodes of a device with late
    /// readings.
    Repairing(Box<Repair>),
}
