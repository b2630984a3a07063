//! History from other systems: rows of CSV, JSON lines or Parquet become records of the log, and from
//! there on readings like any others.

mod batch;
mod read;
mod row;

pub(crate) use read::{Format, rows};
pub(crate) use row::Shape;
