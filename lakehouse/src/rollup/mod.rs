//! Rollups: `telemetry` by quarters of an hour, and those added up to days of the site's calendar.
//!
//! Like every table, a rollup table records which offsets of the log it covers. Readings beyond them, late
//! ones included, name the buckets to recompute. Each is recomputed from all of its readings, and one
//! commit replaces its row. A table that covers nothing yet is built day by day, the oldest first.
//!
//! Because coverage is by offsets and not by versions of `telemetry`, compaction may rewrite files freely,
//! and a query knows exactly which readings the rollups lack.

mod bucket;
mod calendar;
mod carries;
mod counting;
mod coverage;
mod daily;
mod followers;
mod keys;
mod meter_changes;
mod portion;
mod quarter;
mod recompute;
mod replace;
mod rezone;
mod rollups;
mod rows;
mod sources;
mod state;
mod store;

pub use calendar::Zones;
pub use coverage::NotRolledUp;
pub use keys::QUARTER;
pub use rollups::RolledUp;
pub(crate) use rollups::Rollups;
