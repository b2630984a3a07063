//! The Delta side: stores, tables, snapshots and commits.

pub(crate) mod cooldown;
pub(crate) mod damage;
pub(crate) mod durable;
pub(crate) mod events;
pub(crate) mod prune;
pub(crate) mod scan;
pub(crate) mod schema_evolution;
pub(crate) mod snapshot;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod writer;
