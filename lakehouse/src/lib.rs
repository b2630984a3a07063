//! The lakehouse: Delta tables that anyone can read, the tail of rows not yet in them, and the
//! union of the two, in which every acknowledged reading is there once.
//!
//! A [`Lake`] is given decoded rows by partition and offset; it keeps them in its [`Tail`], writes
//! them as sorted Parquet, and commits them together with the offsets they cover.

mod bootstrap;
mod counter;
mod delta;
mod error;
mod lake;
mod memory;
mod rollup;
mod upkeep;
mod view;

use delta::{damage, durable, schema_evolution as grow, scan as files, snapshot, store, table, writer};
use memory::{arrivals, dedup, flush, latest, newest, tail};
use upkeep::{cleaning as clean, compaction as compact, inspection as inspect, retention as retain};
use view::{dead_letters as letters, functions, meters, scoped, session, union};
use delta::prune;

pub use arrivals::{Arrivals, Arrived};
pub use clean::Cleaned;
pub use compact::{Compacted, CompactionPolicy};
pub use counter::{Counter, Doubt, MeterTerms, Reading, TakenBack, Told, Track};
pub use damage::Damage;
pub use dedup::{Dedup, DedupLimits, Wanted};
pub use durable::{Disk, put_under};
pub use error::{Error, ErrorKind, computing_error, is_store_trouble};
pub use flush::Flushed;
pub use functions::{Buckets, IRREGULAR, Interval};
pub use inspect::may_be_damage;
pub use lake::{Lake, LakeOptions, timestamp};
pub use latest::Latest;
pub use letters::{Letter, LetterFilter};
pub use meters::{MeterChanges, Meters};
pub use newest::Newest;
pub use retain::Retained;
pub use rollup::{NotRolledUp, QUARTER, RolledUp, Zones};
pub use scoped::OfDevices;
pub use session::{Engine, EngineLimits};
pub use snapshot::{Covered, DataFile, Snapshot};
pub use tail::{Rows, Tail, TailBatch, TailSize};
pub use union::{UnionTable, View};
