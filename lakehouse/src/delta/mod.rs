//! The Delta tables: the object store below them, their snapshots, and the commits that move rows and
//! offsets together.

pub(crate) mod commit;
mod cooldown;
mod create;
mod damage;
mod durable;
pub(crate) mod events;
pub(crate) mod file_groups;
mod prune;
pub(crate) mod scan;
pub(crate) mod schema_evolution;
pub(crate) mod snapshot;
mod store;
pub(crate) mod table;
pub(crate) mod tables;
pub(crate) mod writer;

pub use damage::Damage;
pub use durable::{Disk, put_under};
pub use snapshot::{Covered, DataFile, Snapshot};
