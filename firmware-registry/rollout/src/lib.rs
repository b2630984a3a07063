//! The logic of firmware rollouts: versions, hardware, maintenance windows, plans, and what happens
//! next to a rollout and to each of its devices.
//!
//! Pure: no I/O and no clock. `control` applies it inside its transactions, and the job that runs
//! rollouts applies it to what `control` has stored, so both always decide alike.

mod decision;
mod hardware;
mod member;
mod plan;
#[cfg(test)]
mod testing;
mod transition;
mod version;
mod window;

pub use decision::{GateAnswer, Judged, Next, judge, offers};
pub use hardware::{Chip, chip_of, why_unfit};
pub use member::{RolloutMember, RunningRollout};
pub use plan::{PlanError, check_plan, stages_of};
pub use transition::{RolloutTransition, observe};
pub use version::{Version, fell_back, is_newer, runs};
pub use window::Window;
