//! Readings that the API answers besides SQL, history and exports, and statements of our own.

mod between;
mod latest;

pub use between::{StoredReadings, readings_between, rows_of};
pub use latest::{LatestQuery, latest_of_device, latest_of_fleet};
