//! The latest readings, a device's readings between two times, and the rows of internal statements.

mod between;
mod latest;

pub use between::{StoredReadings, readings_between, rows_of};
pub use latest::{LatestQuery, latest_of_device, latest_of_fleet};

#[cfg(test)]
mod tests;
