//! Alert rules and device health, as pure state machines over event time: no I/O and no clock, so that the
//! stream, a repair and a backtest get the same results from the same readings.

mod amend;
mod backtest;
mod cadence;
mod defaults;
mod duplicate_id;
mod episode;
mod evaluator;
mod flapping;
mod health;
mod inputs;
mod message;
mod plan;
mod rows;
mod set;
#[cfg(test)]
mod testing;
mod vitals;

pub use amend::{Amendment, Recorded, amend, state_at};
pub use backtest::{FoundEpisode, Replay};
pub use cadence::{GAP, LONGEST_GAP, Recent, certain_before};
pub use defaults::default_rules;
pub use episode::{Open, ReadingState, State, Step, Terms};
pub use evaluator::{BACKFILLED_AFTER, Evaluation, Evaluator, Stepped};
pub use flapping::{Begun, Flapping, MOST_FLAPS};
pub use health::{Health, HealthPolicy, Listening, Signal, StatusChange};
pub use inputs::{Inputs, Site};
pub use plan::{Compiled, Planner, RuleFault};
pub use set::{LiveRule, RuleSet};
pub use vitals::{Anomaly, ClockNews, Condition, VitalLimits, VitalState};
