//! The evaluate stage: rules on readings, and the presence and health of devices. What it finds is
//! written to control together with the offset of the records that it was found in.

mod alerts;
mod catch_up;
mod counters;
mod devices;
mod evaluation;
mod evaluator;
mod phase;
mod repair;
mod repairing;
mod rows;

pub(crate) use evaluation::{BatchEvaluation, UnsavedStates};
pub(super) use evaluator::RuleEvaluator;
pub(super) use repairing::{RepairTurn, WindowEnd};
