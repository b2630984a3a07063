//! The lakehouse: Delta tables that any engine can read, the tail of rows that are not in them yet, and
//! views of both, in which every acknowledged reading occurs once.
//!
//! A [`Lake`] is given decoded rows by partition and offset. It keeps them in its [`Tail`], writes them as
//! sorted Parquet, and commits them together with the offsets they cover.
//!
//! The modules are floors. Each may use those above it in this list, and none below:
//!
//! | module | holds |
//! |---|---|
//! | `error`, `options` | errors by what the caller can do; how a lake is opened |
//! | `batch`, `counter` | columns of record batches; how readings of a counter add up. Both pure |
//! | `delta` | stores, tables, snapshots, commits, and recovery from power cuts |
//! | `memory` | tail, deduplication, latest readings, and the flush from there to `delta` |
//! | `view` | tables and tail as one, the query engine and its functions |
//! | `rollup`, `upkeep` | rollup tables; compaction, retention, cleaning, inspection |
//! | `bootstrap` | what is read at a start |
//! | `lake` | the facade |

mod batch;
mod bootstrap;
mod counter;
mod delta;
mod error;
mod lake;
mod memory;
mod options;
mod rollup;
#[cfg(test)]
mod testing;
mod upkeep;
mod view;

pub use batch::timestamp;
pub use counter::{CountOutcome, Counter, Doubt, MeterTerms, Reading, TakenBack, Track};
pub use delta::{Covered, Damage, DataFile, Disk, Snapshot, put_under};
pub use error::{Error, ErrorKind, computing_error, is_store_trouble, may_be_damage};
pub use lake::Lake;
pub use memory::{
    Arrivals, Arrived, Dedup, DedupLimits, DeviceDay, Flushed, Latest, Newest, Rows, Tail,
    TailBatch, TailSize,
};
pub use options::{LakeOptions, WriteGuards};
pub use rollup::{NotRolledUp, QUARTER, RolledUp, Zones};
pub use upkeep::{Cleaned, Compacted, CompactionPolicy, Retained};
pub use view::{
    Buckets, Engine, EngineLimits, IRREGULAR, Interval, Letter, LetterFilter, MeterChanges, Meters,
    OfDevices, UnionTable, View,
};
