//! What a process holds in memory: rows that are not in the tables yet, and the newest reading and
//! heartbeat of every device.

mod arrivals;
pub(crate) mod dedup;
pub(crate) mod flush;
mod latest;
mod live;
mod newest;
mod tail;
pub(crate) mod uncommitted;

pub use arrivals::{Arrivals, Arrived};
pub use dedup::{Dedup, DedupLimits, DeviceDay};
pub use flush::Flushed;
pub use latest::Latest;
pub(crate) use live::LiveState;
pub use newest::Newest;
pub use tail::{Rows, Tail, TailBatch, TailSize};
