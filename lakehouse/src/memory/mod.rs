//! What a process holds in memory: the tail, and what is newest of each device.

pub(crate) mod arrivals;
pub(crate) mod dedup;
pub(crate) mod flush;
pub(crate) mod latest;
pub(crate) mod newest;
pub(crate) mod tail;
