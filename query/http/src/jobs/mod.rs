//! Background jobs. None of them knows HTTP or the rest of this crate: they belong to the processor, and
//! are written so that they can move there.

pub(crate) mod backtest;
pub(crate) mod rollouts;
