//! A realistic fleet: meters with load curves and counters, and loggers with their typical faults.

mod answers;
mod meter;
mod run;

pub use answers::Answers;
pub use meter::{Meter, Site};
pub use run::{FleetOptions, Report, Totals, run};
