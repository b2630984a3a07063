//! SQL: the gate that a query must pass, its run under limits, and its answer.

mod answer;
mod collect;
mod expanded;
mod gate;
mod internal;
mod latest;
mod names;
mod order;
mod render;
mod run;
mod tables;
mod updates;

pub use gate::{GateLimits, check as check_query};
pub use run::SqlLimits;

pub(crate) use answer::{Found, Pieces, as_answer, object_with, pieces_of, turn};
pub(crate) use internal::{
    Readings, as_query, internal_rows, name_rows, on_threads, readings_between, session_over,
    value_rows,
};
pub(crate) use latest::latest_reading;
pub(crate) use render::values;
pub(crate) use run::{Damage, Facts, explain, frame_of, from_engine, run};
pub(crate) use tables::{TableInfo, control_tables, tables};
