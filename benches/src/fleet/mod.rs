//! A believable fleet: meters with load curves and counters, loggers with their habits.

mod answers;
mod meter;
mod run;

pub use answers::Answers;
pub use meter::{Meter, Site};
pub use run::{FleetOptions, Report, Totals, run};
