//! The stream as a whole, in this process, on a real log, database and lake. In whatever order
//! readings arrive, how often, how late, and wherever the stream is cut off: the result has to be
//! the same.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::large_futures, reason = "a test's own future may be as large as it likes")]

mod devices;
mod fixture;
mod guards;
mod interleaving;
mod life;
