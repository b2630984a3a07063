//! Alert rules and health, as pure state machines over event time. No IO and no clock: the stream, a
//! repair and a backtest run the same code over the same columns.

mod amend;
mod backtest;
mod cadence;
mod defaults;
mod episode;
mod flapping;
mod health;
mod inputs;
mod judge;
mod message;
mod plan;
mod set;
mod twins;
mod vitals;

pub use amend::{Amendment, Recorded, amend, state_at};
pub use backtest::{Found, Replay};
pub use cadence::{GAP, LONGEST_GAP, Recent, certain_before};
pub use defaults::default_rules;
pub use episode::{Open, State, Step, Terms, Verdict};
pub use flapping::{Begun, Flapping, MOST_FLAPS};
pub use health::{Beat, Health, HealthPolicy, Signal, StatusChange};
pub use inputs::{Inputs, Site};
pub use judge::{BACKFILLED_AFTER, Judge, Judged, Stepped};
pub use plan::{Compiled, Fault, Planner};
pub use set::{LiveRule, RuleSet};
pub use vitals::{Anomaly, ClockNews, Condition, VitalLimits, VitalState};
