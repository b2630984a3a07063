//! History from other systems: rows of CSV, JSON lines or Parquet become records of the log, and from
//! there on readings like any others.

mod batch;
mod outcome;
mod read;
mod row;

pub(crate) use outcome::Outcomes;
pub(crate) use read::{Format, Reader};
pub(crate) use row::Shape;
