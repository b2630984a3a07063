//! The lakehouse: Delta tables that anyone can read, the tail of rows not yet in them, and the
//! union of the two, in which every acknowledged reading is there once.
//!
//! A [`Lake`] is given decoded rows by partition and offset; it keeps them in its [`Tail`], writes
//! them as sorted Parquet, and commits them together with the offsets they cover.

mod clean;
mod compact;
mod dedup;
mod error;
mod files;
mod flush;
mod lake;
mod newest;
mod session;
mod store;
mod table;
mod tail;
mod union;
mod writer;

pub use clean::Cleaned;
pub use compact::{Compacted, CompactionPolicy};
pub use dedup::{Dedup, DedupLimits, Wanted};
pub use error::{Error, ErrorKind, is_store_trouble};
pub use flush::Flushed;
pub use lake::{Lake, LakeOptions};
pub use newest::Newest;
pub use session::{Engine, EngineLimits};
pub use table::{Covered, Snapshot};
pub use tail::{Rows, Tail, TailBatch, TailSize};
pub use union::{UnionTable, View};
