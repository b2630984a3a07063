//! Background work on the tables: compaction, retention, cleaning, and the search for damaged files.

pub(crate) mod cleaning;
pub(crate) mod compaction;
pub(crate) mod inspection;
pub(crate) mod retention;

pub use cleaning::Cleaned;
pub use compaction::{Compacted, CompactionPolicy};
pub use retention::Retained;
