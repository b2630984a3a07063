//! SQL and readings over lake and tail, without HTTP: the gate that a query must pass, the threads and
//! permits that everything runs under, control's tables, history, exports and the encoders of answers.
//!
//! The modules from the ground up, each using only those before it: `error`, `gate`, `limits`, `encode`,
//! `engine`, `answer`, `tables`, `query`, `readings`, `history`, `export`. Callers hold a [`Sql`].

pub mod answer;
pub mod encode;
pub mod engine;
pub mod error;
pub mod export;
pub mod gate;
pub mod history;
pub mod limits;
pub mod query;
pub mod readings;
pub mod tables;

#[cfg(test)]
mod testing;

pub use engine::{Sql, SqlParts, TailCheck};
pub use error::QueryError;
pub use gate::{GateLimits, check as check_query};
pub use limits::SqlLimits;
