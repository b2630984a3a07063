//! Imports of history from other systems: rows of CSV, JSON lines or Parquet become records of the log, and go
//! the same way as those of devices from there on.

mod batch;
mod outcome;
mod read;
mod row;
mod service;

pub(crate) use read::Format;
pub(crate) use row::Shape;
pub(crate) use service::Imports;
