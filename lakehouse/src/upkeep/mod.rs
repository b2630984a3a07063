//! What keeps the tables small and whole.

pub(crate) mod cleaning;
pub(crate) mod compaction;
pub(crate) mod inspection;
pub(crate) mod retention;
