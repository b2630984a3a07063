//! SQL: the gate that a query must pass, its run under limits, and its answer.

mod gate;
mod latest;
mod render;
mod run;
mod tables;

pub use gate::{GateLimits, check as check_query};
pub use run::SqlLimits;

pub(crate) use latest::latest_reading;
pub(crate) use run::{Outcome, run};
pub(crate) use tables::{TableInfo, tables};
