//! Backtests: a rule over the stored readings, in the background, one at a time. They live as long as the
//! process; a result that is lost can be computed again.

mod day;
mod error;
mod registry;
mod request;
mod result;
mod run;

pub(crate) use error::BacktestError;
pub(crate) use registry::{Backtests, TooManyBacktests, WAITING};
pub(crate) use request::{BacktestParts, NewBacktest};
